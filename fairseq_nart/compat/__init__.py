"""Fixes that let unmodified fairseq run on current versions of Python, torch and NumPy.

fairseq (the registry package ``fairseq-fixed``) still has bugs on current versions. Each is
fixed here in memory, one small function per bug, with the reason beside it. No file of fairseq
is changed, and a fix does nothing where its bug is gone. Nothing here depends on
non-autoregressive models.

:func:`apply` is called when our task is imported, for example by ``--user-dir fairseq_nart``. It
may be called any number of times; a later call also fixes modules imported since the previous one.

Two known bugs need no fix here. The teacher reranker of fairseq's iterative generator reads an
attribute of a dict; this project has its own rescorer. ``fairseq-score --sacrebleu`` passes file
objects to sacrebleu 2; this project calls sacrebleu itself.

``fairseq_nart.compat.checkpoints.load_checkpoint`` can be used alone; it does not import fairseq.
"""

__all__ = ["apply"]


def apply() -> None:
    """Apply all fixes."""
    # Imported here to keep `import fairseq_nart.compat` cheap.
    from fairseq_nart.compat import (
        batching,
        bf16,
        checkpoints,
        dictionaries,
        distributed,
        encoding,
        literals,
        nan_detector,
        numpy_aliases,
        pieces,
        programs,
        quiet,
        resuming,
        saving,
    )

    quiet.silence_deprecations()
    checkpoints.allow_checkpoint_types()
    checkpoints.fix_fairseq_loading()
    saving.fix_fairseq_saving()
    resuming.fix_resuming()
    literals.forbid_code_in_options()
    batching.keep_last_batch()
    numpy_aliases.restore_aliases()
    dictionaries.name_faulty_lines()
    bf16.separate_bf16_from_tpu()
    distributed.fix_launching()
    distributed.fix_pytorch_ddp_on_cpu()
    distributed.fix_broadcast()
    encoding.fix_interactive_input()
    pieces.decode_bytes()
    nan_detector.disable_backward_hooks()
    nan_detector.name_batch()
    programs.fix_programs()

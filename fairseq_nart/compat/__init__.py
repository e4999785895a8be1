"""Lets unmodified fairseq run on today's Python, torch and NumPy.

fairseq (the registry package ``fairseq-fixed``) still has faults on current versions. Each is
mended here in memory, one small function per fault with its reason beside it; no file of
fairseq is changed, and a mend does nothing where its fault is gone. Nothing here knows what a
non-autoregressive model is.

:func:`apply` is called when fairseq imports ``--user-dir``. It may be called at any time and
any number of times; a later call also reaches modules imported since the last one.

Two known faults need nothing here: the teacher reranker of fairseq's iterative generator reads
an attribute of a dict (this project has a rescorer of its own), and ``fairseq-score
--sacrebleu`` hands file objects to sacrebleu 2 (this project calls sacrebleu itself).

``fairseq_nart.compat.checkpoints.load_checkpoint`` may be used alone; it does not import
fairseq.
"""

__all__ = ["apply"]


def apply() -> None:
    """Apply all mends, in order."""
    # Imported here so that `import fairseq_nart.compat` alone costs nothing.
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
        saving,
    )

    quiet.silence_deprecations()
    checkpoints.allow_checkpoint_types()
    checkpoints.mend_fairseq_loading()
    saving.mend_fairseq_saving()
    literals.forbid_code_in_options()
    batching.keep_last_batch()
    numpy_aliases.restore_aliases()
    dictionaries.name_faulty_lines()
    bf16.separate_bf16_from_tpu()
    distributed.mend_launching()
    distributed.mend_pytorch_ddp_on_cpu()
    distributed.mend_broadcast()
    encoding.mend_interactive_input()
    pieces.decode_bytes()
    nan_detector.look_forward_only()
    programs.mend_programs()

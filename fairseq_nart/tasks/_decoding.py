"""Builds engine, rescorer and generator from the task's options."""

from dataclasses import fields
from typing import Any

from fairseq.dataclass.configs import GenerationConfig

from fairseq_nart.compat import allocator
from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.generator import NartGenerator
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.options import typed
from fairseq_nart.tasks import _cpu_decoding, _options
from fairseq_nart.teacher.loading import load_teacher
from fairseq_nart.teacher.rescoring import TeacherRescorer

HARMLESS = ("nbest", "print_step", "sacrebleu", "no_seed_provided", "no_early_stop", "_name")
"""Options of fairseq-generate that parallel decoding supports, or that have no effect."""


def generator(task: Any, models: list[Any], args: Any) -> NartGenerator | None:
    """The generator of a non-autoregressive model. Other models are only packed: returns None.

    UserError for options that have no effect on the models.
    """
    allocator.keep_freed_memory()
    if not any(isinstance(model, NartModel) for model in models):
        _options.decoding_of(task.cfg, models[0])
        if task.cfg.rescore_with:
            raise UserError("--rescore-with has no effect on an autoregressive model: leave it out")
        for model in models if not task.cfg.eval_bleu else ():
            _cpu_decoding.pack(model)
        return None
    if len(models) != 1:
        raise UserError(
            f"--path names {len(models)} checkpoints: give one, because non-autoregressive models "
            "cannot be combined"
        )
    for option in fields(GenerationConfig):
        value = getattr(args, option.name, option.default)
        fits = (option.default, 1) if option.name == "beam" else (option.default,)
        if option.name not in HARMLESS and value not in fits:
            raise UserError(
                f"{typed(option.name)} is not for a non-autoregressive model: leave it out "
                "(docs/options.md lists its own, such as --length-candidates, --ctc-beam)"
            )
    models[0].eval()
    most, strict = getattr(args, "nbest", 1), task.cfg.eval_bleu
    return NartGenerator(engine(task, models[0]), most, strict)


def engine(task: Any, model: NartModel) -> Engine:
    """The engine for `model`, configured by the task's options."""
    cfg = task.cfg
    teacher = rescorer(task, cfg.rescore_with) if cfg.rescore_with else None
    if not cfg.eval_bleu:  # with --eval-bleu the model is in training
        model.drop_training_parts()
        _cpu_decoding.pack(model)
        if teacher:
            teacher.follow(next(model.parameters()))
            _cpu_decoding.pack(teacher.teacher)
    eos, pad = task.tgt_dict.eos(), task.tgt_dict.pad()
    options = _options.decoding_of(cfg, model)
    return Engine(model, eos=eos, pad=pad, options=options, rescorer=teacher)


def with_bleu(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The logs of validation, in which fairseq would omit the BLEU of empty outputs."""
    counted = [log["_bleu_totals_0"] for log in logs if "_bleu_totals_0" in log]
    if counted and not any(counted):
        return [{**log, "_bleu_totals_0": 1e-9} for log in logs]
    return logs


def add_teacher(task: Any, model: NartModel) -> None:
    """Gives the model its teacher for fine-tuning, if it has one."""
    if path := model.teacher_path():
        model.teacher = rescorer(task, path)
        model.teacher.require_positions(model.max_positions(), f"--finetune-with {path}")


def rescorer(task: Any, path: str) -> TeacherRescorer:
    """The teacher at `path`, with the task's normalization rule."""
    return TeacherRescorer(
        load_teacher(path, task),
        eos=task.tgt_dict.eos(),
        normalization=str(task.cfg.rescore_normalization),
        alpha=_options.alpha(task.cfg),
    )

"""Loads an autoregressive teacher that shares a task's dictionaries."""

from typing import Any, Protocol

from fairseq import checkpoint_utils, models
from fairseq.data import Dictionary
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.models.nat import FairseqNATModel
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from fairseq_nart.compat.checkpoints import options_of
from fairseq_nart.data import dictionaries, languages
from fairseq_nart.errors import UserError


class Task(Protocol):
    """The languages and dictionaries that a teacher must share with its student."""

    cfg: Any
    """Has source_lang and target_lang."""
    src_dict: Dictionary
    tgt_dict: Dictionary


def load_teacher(path: str, task: Task) -> BaseFairseqModel:
    """Loads any autoregressive fairseq encoder-decoder with the dictionaries of `task`, in fp32.

    UserError for a non-autoregressive model or the opposite direction, DictionaryError for other
    dictionaries.
    """
    state = checkpoint_utils.load_checkpoint_to_cpu(path)
    model = options_of(state).model
    arch = getattr(model, "arch", None) or model._name
    kind = models.ARCH_MODEL_REGISTRY.get(arch, models.MODEL_REGISTRY.get(arch, object))
    if not issubclass(kind, FairseqEncoderDecoderModel) or issubclass(kind, FairseqNATModel):
        raise UserError(
            f"{path} holds a non-autoregressive model ({arch}): a teacher must be autoregressive, "
            "such as nart_teacher_cpu"
        )
    theirs = languages.of_checkpoint(state)
    ours = (task.cfg.source_lang, task.cfg.target_lang)
    if theirs == ours[::-1] != ours:
        raise UserError(
            f"{path} translates {theirs[0]} to {theirs[1]}, not {ours[0]} to {ours[1]}: give a "
            "teacher of the same direction"
        )
    dictionaries.require_agreement(path, state, task)
    state.pop("task_state", None)
    plain = TranslationTask(TranslationConfig(), task.src_dict, task.tgt_dict)
    (teacher,), _ = checkpoint_utils.load_model_ensemble([path], task=plain, state=state)
    return teacher.float().eval()

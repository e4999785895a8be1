"""The teacher of a distillation: an autoregressive model over the dictionaries of the data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from fairseq.data import Dictionary, data_utils

from fairseq_nart.compat.checkpoints import options_of
from fairseq_nart.tasks.nart_translation import NartTranslationConfig, NartTranslationTask
from fairseq_nart.tools._files import sha256


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher with all that a search needs to know of it."""

    path: Path
    data: Path
    """The folder with its dictionaries."""
    languages: tuple[str, str]
    source: Dictionary
    target: Dictionary
    model: Any
    """In fp32, on the CPU."""
    record: dict[str, Any]
    """What a manifest says of it: checksum, and its scores on validation data where known."""

    @classmethod
    def load(cls, path: Path, data: Path) -> "Teacher":
        """ValueError where it is missing, non-autoregressive or has other dictionaries."""
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        cfg = options_of(state)
        record = {"path": str(path), "sha256": sha256(path), **_scores(state, cfg)}
        source, target = languages = language_pair(cfg.task, data)
        options = NartTranslationConfig(data=str(data), source_lang=source, target_lang=target)
        task = NartTranslationTask.setup_task(options)
        model = task.load_teacher(str(path))
        return cls(path, data, languages, task.src_dict, task.tgt_dict, model, record)


def language_pair(task: Any, data: Path) -> tuple[str, str]:
    """As `task` has them; where it does not say, as the data are named. ValueError without any."""
    source, target = (getattr(task, name, None) for name in ("source_lang", "target_lang"))
    if not (source and target):
        source, target = data_utils.infer_language_pair(str(data))
    if not (source and target):
        raise ValueError(f"{data} holds no binarised translation data, such as train.de-en.de.bin")
    return source, target


def _scores(state: dict[str, Any], cfg: Any) -> dict[str, Any]:
    """The checkpoint's own score on its validation data and the best of its training so far."""
    extra = state.get("extra_state") or {}
    scores = {"score": extra.get("val_loss"), "best": extra.get("best")}
    numbers = {name: None if x is None else round(float(x), 6) for name, x in scores.items()}
    known = any(number is not None for number in numbers.values())
    return {"metric": cfg.checkpoint.best_checkpoint_metric if known else None, **numbers}

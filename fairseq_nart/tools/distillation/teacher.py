"""The teacher of a distillation: an autoregressive model over the dictionaries of the data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from fairseq.data import Dictionary

from fairseq_nart.compat.checkpoints import options_of
from fairseq_nart.files import sha256
from fairseq_nart.tasks import _languages
from fairseq_nart.tasks.nart_translation import NartTranslationConfig, NartTranslationTask


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
    def load(
        cls, path: Path, data: Path, asked: tuple[str | None, str | None] = (None, None)
    ) -> "Teacher":
        """Of the languages that are `asked` for, else of the checkpoint's, else of the data's.

        ValueError where it is missing, non-autoregressive or has other dictionaries.
        """
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        cfg = options_of(state)
        record = {"path": str(path), "sha256": sha256(path), **_scores(state, cfg)}
        _languages.require_folder(data)
        stored = _languages.of_checkpoint(state)
        source, target = languages = _languages.choose(data, asked, stored)
        options = NartTranslationConfig(data=str(data), source_lang=source, target_lang=target)
        task = NartTranslationTask.setup_task(options)
        model = task.load_teacher(str(path))
        return cls(path, data, languages, task.src_dict, task.tgt_dict, model, record)


def _scores(state: dict[str, Any], cfg: Any) -> dict[str, Any]:
    """The checkpoint's own score on its validation data and the best of its training so far."""
    extra = state.get("extra_state") or {}
    scores = {"score": extra.get("val_loss"), "best": extra.get("best")}
    numbers = {name: None if x is None else round(float(x), 6) for name, x in scores.items()}
    known = any(number is not None for number in numbers.values())
    return {"metric": cfg.checkpoint.best_checkpoint_metric if known else None, **numbers}

"""Loads a teacher for tools: an autoregressive model with the dictionaries of a data folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from fairseq.data import Dictionary

from fairseq_nart.compat.checkpoints import options_of
from fairseq_nart.data import languages
from fairseq_nart.files import sha256
from fairseq_nart.tasks._options import task_config
from fairseq_nart.tasks.nart_translation import NartTranslationTask
from fairseq_nart.teacher.loading import load_teacher


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher with everything a search needs."""

    path: Path
    data: Path
    """The folder with its dictionaries."""
    languages: tuple[str, str]
    source: Dictionary
    target: Dictionary
    model: Any
    """In fp32, on the CPU."""
    record: dict[str, Any]
    """For a manifest: path, checksum, and validation scores where known."""

    @classmethod
    def load(
        cls, path: Path, data: Path, asked: tuple[str | None, str | None] = (None, None)
    ) -> "Teacher":
        """Loads a teacher for the languages `asked`, else the checkpoint's, else the data's.

        UserError where it is missing, non-autoregressive or has other dictionaries.
        """
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        cfg = options_of(state)
        record = {"path": str(path), "sha256": sha256(path), **_scores(state, cfg)}
        stored = languages.of_checkpoint(state)
        source, target = pair = languages.choose(data, asked, stored)
        options = task_config()(data=str(data), source_lang=source, target_lang=target)
        task = NartTranslationTask.setup_task(options)
        model = load_teacher(str(path), task)
        return cls(path, data, pair, task.src_dict, task.tgt_dict, model, record)


def _scores(state: dict[str, Any], cfg: Any) -> dict[str, Any]:
    """The checkpoint's validation score and the best one of its training run so far."""
    extra = state.get("extra_state") or {}
    scores = {"score": extra.get("val_loss"), "best": extra.get("best")}
    numbers = {name: None if x is None else round(float(x), 6) for name, x in scores.items()}
    known = any(number is not None for number in numbers.values())
    return {"metric": cfg.checkpoint.best_checkpoint_metric if known else None, **numbers}

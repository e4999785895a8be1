"""Checks that a checkpoint and the data have the same dictionaries."""

import logging
import os
from typing import Any

from fairseq import utils
from fairseq.data import Dictionary

from fairseq_nart.errors import UserError

logger = logging.getLogger(__name__)


class DictionaryError(UserError):
    """A checkpoint and the data have different dictionaries."""


def first_difference(theirs: list[str], ours: list[str]) -> str | None:
    """Describes the first difference of two lists of symbols; None if they are equal."""
    for index, (their, our) in enumerate(zip(theirs, ours, strict=False)):
        if their != our:
            return f"entry {index} is {their!r} there and {our!r} here"
    if len(theirs) != len(ours):
        longer = theirs if len(theirs) > len(ours) else ours
        where = "there" if longer is theirs else "here"
        index = min(len(theirs), len(ours))
        return (
            f"{len(theirs)} entries there and {len(ours)} here; "
            f"entry {index}, {longer[index]!r}, is only {where}"
        )
    return None


def require_equal(what: str, side: str, theirs: list[str], ours: list[str]) -> None:
    """DictionaryError names `what` (a checkpoint) and the first difference, if there is one."""
    difference = first_difference(theirs, ours)
    if difference:
        raise DictionaryError(
            f"{what} was trained with another {side} dictionary than the data directory's: "
            f"{difference}. Give the data directory it was trained on, or data binarised with its "
            "dictionaries (fairseq-preprocess --srcdict/--tgtdict)"
        )


def sides(task: Any) -> dict[str, tuple[str, Dictionary]]:
    """The task's language and dictionary for "source" and "target"."""
    return {
        "source": (task.cfg.source_lang, task.src_dict),
        "target": (task.cfg.target_lang, task.tgt_dict),
    }


def require_agreement(path: str, state: dict[str, Any], task: Any) -> None:
    """DictionaryError if the checkpoint `state` at `path` has other dictionaries than `task`.

    Our checkpoints store their symbols. For others, the dictionaries of their data directory are
    read if it still exists. The number of embeddings is always compared.
    """
    stored = (state.get("task_state") or {}).get("symbols")
    options = state["cfg"]["task"] if state.get("cfg") else state["args"]
    folder = utils.split_paths(getattr(options, "data", None) or "")[0]
    for side, (language, ours) in sides(task).items():
        theirs = stored[side] if stored else None
        file = os.path.join(folder, f"dict.{language}.txt")
        if theirs is None and folder and os.path.exists(file):
            logger.warning("%s: compared with %s, in the data folder that it names", path, file)
            theirs = Dictionary.load(file).symbols
        if theirs is not None:
            require_equal(path, side, list(theirs), ours.symbols)
        embeddings = "encoder" if side == "source" else "decoder"
        weight = state["model"].get(f"{embeddings}.embed_tokens.weight")
        if weight is not None and len(weight) != len(ours):
            raise DictionaryError(
                f"{path} has {len(weight)} {side} embeddings, the data directory's {side} "
                f"dictionary {len(ours)} entries: they were made with different dictionaries"
            )

"""Do a checkpoint and the data agree on their dictionaries? If not: how, and where first."""

import os
from typing import Any

from fairseq import utils
from fairseq.data import Dictionary


class DictionaryError(ValueError):
    """Two parts that must share a dictionary do not."""


def first_difference(theirs: list[str], ours: list[str]) -> str | None:
    """In words, or None where the two lists of symbols are equal."""
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
    """DictionaryError naming `what` (a checkpoint) and the first difference."""
    difference = first_difference(theirs, ours)
    if difference:
        raise DictionaryError(
            f"{what} was trained with another {side} dictionary than the data directory holds: "
            f"{difference}. Give the data directory it was trained on, or data binarised with its "
            "dictionaries (fairseq-preprocess --srcdict/--tgtdict)"
        )


def require_agreement(
    path: str, state: dict[str, Any], sides: dict[str, tuple[str, Dictionary]]
) -> None:
    """Checks the checkpoint `state` at `path`; `sides` maps source and target to language and ours.

    Our checkpoints carry their symbols. For others, the dictionaries of their data directory are
    read where it still exists; the number of embeddings is compared in any case.
    """
    carried = (state.get("task_state") or {}).get("symbols")
    options = state["cfg"]["task"] if state.get("cfg") else state["args"]
    folder = utils.split_paths(getattr(options, "data", None) or "")[0]
    for side, (language, ours) in sides.items():
        theirs = carried[side] if carried else None
        file = os.path.join(folder, f"dict.{language}.txt")
        if theirs is None and folder and os.path.exists(file):
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

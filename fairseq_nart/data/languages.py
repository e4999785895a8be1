"""Finds the language pair: from the user, the checkpoint, or the names of the data files."""

import itertools
from pathlib import Path
from typing import Any

from fairseq import utils

from fairseq_nart.errors import UserError

Pair = tuple[str, str]
"""Source and target language codes."""


def in_folder(data: Path) -> list[Pair]:
    """The language pairs of the binarised files in `data`, for the languages of its dictionaries.

    fairseq would take the first pair in directory order, and finds no language with a hyphen.
    """
    dictionaries = (file.name for file in data.glob("dict.*.txt"))
    languages = sorted(name.removeprefix("dict.").removesuffix(".txt") for name in dictionaries)
    return [
        (source, target)
        for source, target in itertools.permutations(languages, 2)
        if any(
            file.name.endswith(f".{source}-{target}.{source}{ending}")
            for ending in (".idx", ".bin")
            for file in data.glob(f"*{ending}")
        )
    ]


def of_checkpoint(state: dict[str, Any]) -> tuple[str | None, str | None]:
    """The pair that a loaded checkpoint was trained for; None for an unknown language."""
    stored = (state.get("task_state") or {}).get("languages")
    if stored:
        return stored[0], stored[1]
    options = state["cfg"]["task"] if state.get("cfg") else state["args"]
    return getattr(options, "source_lang", None), getattr(options, "target_lang", None)


def require_folder(data: str | Path) -> None:
    """UserError if a data folder does not exist or has a name that fairseq cannot handle."""
    folders = utils.split_paths(str(data))
    missing = next((folder for folder in folders if not Path(folder).is_dir()), None)
    if missing is None:
        return
    if Path(str(data)).is_dir():
        raise UserError(
            f"{data}: fairseq reads a colon in a path as a separator of folders: rename the folder "
            "or create a link to it without a colon"
        )
    raise UserError(
        f"there is no data folder {missing}: give the folder with the dictionaries, dict.*.txt "
        "(--data, or the first argument of fairseq's commands; in Python data=)"
    )


def choose(data: str | Path, *known: tuple[str | None, str | None], how: str = "-s and -t") -> Pair:
    """Takes each language from the first of `known` that has it, else from the files in `data`.

    UserError if the folder has no such pair, or several; `how` tells the user how to give one.
    """
    require_folder(data)
    source, target = (next((one[side] for one in known if one[side]), None) for side in (0, 1))
    if source and target:
        return source, target
    folder = Path(utils.split_paths(str(data))[0])
    pairs = [x for x in in_folder(folder) if (source or x[0]) == x[0] and (target or x[1]) == x[1]]
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        names = ", ".join("-".join(pair) for pair in pairs)
        raise UserError(f"{folder} holds several language pairs ({names}): choose one by {how}")
    raise UserError(
        f"{folder} holds no binarised translation data, such as train.de-en.de.bin, whose name "
        f"gives the languages: give them by {how}"
    )

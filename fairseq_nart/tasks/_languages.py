"""The language pair: as the user gives it, as the checkpoint has it, or as the data are named."""

import itertools
from pathlib import Path
from typing import Any

from fairseq import utils

Pair = tuple[str, str]
"""Source and target language."""


def in_folder(data: Path) -> list[Pair]:
    """The pairs of the binarised files in `data`, whose languages are those of its dictionaries.

    fairseq's own inference takes the first pair that the disk lists, and none with a hyphen.
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
    """The pair that a loaded checkpoint was trained for; None where it does not say."""
    stored = (state.get("task_state") or {}).get("languages")
    if stored:
        return stored[0], stored[1]
    options = state["cfg"]["task"] if state.get("cfg") else state["args"]
    return getattr(options, "source_lang", None), getattr(options, "target_lang", None)


def require_folder(data: str | Path) -> None:
    """ValueError where a data folder does not exist, or has a name that fairseq cannot read."""
    folders = utils.split_paths(str(data))
    missing = next((folder for folder in folders if not Path(folder).is_dir()), None)
    if missing is None:
        return
    if Path(str(data)).is_dir():
        raise ValueError(
            f"{data}: fairseq takes a colon in a path for the end of one folder and the beginning "
            "of another: rename the folder or make a link to it without a colon"
        )
    raise ValueError(
        f"there is no data folder {missing}: give the folder with the dictionaries, dict.*.txt "
        "(--data, where it is not the first argument; in Python data=)"
    )


def choose(data: str | Path, *known: tuple[str | None, str | None], how: str = "-s and -t") -> Pair:
    """Each side as the first of `known` has it that has one, else as the files of `data` are named.

    ValueError where the folder has no such pair, or several; `how` says how to give one.
    """
    source, target = (next((one[side] for one in known if one[side]), None) for side in (0, 1))
    if source and target:
        return source, target
    folder = Path(utils.split_paths(str(data))[0])
    pairs = [x for x in in_folder(folder) if (source or x[0]) == x[0] and (target or x[1]) == x[1]]
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        names = ", ".join("-".join(pair) for pair in pairs)
        raise ValueError(f"{folder} holds several language pairs ({names}): choose one by {how}")
    raise ValueError(
        f"{folder} holds no binarised translation data, such as train.de-en.de.bin, to tell the "
        f"languages by: give them by {how}"
    )

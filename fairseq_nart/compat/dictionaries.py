"""Dictionaries whose faults are named by file and line.

fairseq's reader names neither, and a word that occurs twice is a RuntimeError.
"""

import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq_nart.compat._patch import wrap
from fairseq_nart.text import read_lines


def name_faulty_lines() -> None:
    """Mend ``Dictionary.add_from_file``, through which every dictionary is loaded."""
    dictionary = importlib.import_module("fairseq.data.dictionary").Dictionary
    wrap(dictionary, "add_from_file", _add_from_file)


def _add_from_file(original: Callable[..., Any], dictionary: Any, file: Any) -> None:
    """Read `file`, a path or an open file, into `dictionary`.

    ValueError names the file and the line that is not `WORD COUNT` or repeats a word.
    """
    if not isinstance(file, str) or "://" in file:
        return original(dictionary, file)
    for number, line in enumerate(read_lines(Path(file)), 1):
        try:
            original(dictionary, io.StringIO(f"{line}\n"))
        except (RuntimeError, ValueError) as error:
            twice = isinstance(error, RuntimeError)
            fault = "repeats a word" if twice else "is not a word, a space and its count"
            raise ValueError(
                f"{file}, line {number} {fault}: {line!r}. Give the file as fairseq-preprocess "
                "wrote it, or binarise the text again"
            ) from error
    return None

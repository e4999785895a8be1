"""Names the file and the line of an error in a dictionary.

fairseq's reader names neither, and raises RuntimeError for a duplicate word.
"""

import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq_nart.compat._patch import wrap
from fairseq_nart.errors import UserError
from fairseq_nart.text import read_lines


def name_faulty_lines() -> None:
    """Fix ``Dictionary.add_from_file``, which loads every dictionary."""
    dictionary = importlib.import_module("fairseq.data.dictionary").Dictionary
    wrap(dictionary, "add_from_file", _add_from_file)


def _add_from_file(original: Callable[..., Any], dictionary: Any, file: Any) -> None:
    """Read `file`, a path or an open file, into `dictionary`.

    UserError names the file and the line that is not `WORD COUNT` or repeats a word.
    """
    if not isinstance(file, str) or "://" in file:
        return original(dictionary, file)
    for number, line in enumerate(read_lines(Path(file)), 1):
        try:
            original(dictionary, io.StringIO(f"{line}\n"))
        except (RuntimeError, ValueError) as error:
            duplicate = isinstance(error, RuntimeError)
            fault = "repeats a word" if duplicate else "is not a word, a space and its count"
            raise UserError(
                f"{file}, line {number} {fault}: {line!r}. Use the file that fairseq-preprocess "
                "wrote, or binarise the text again"
            ) from error
    return None

"""The exception for mistakes that the user can fix."""

from collections.abc import Callable, Sequence
from typing import Any


class UserError(ValueError):
    """Invalid user input. `fairseq-nart` prints only the message, in one line.

    The message names the file, line or option, and what to do. Any other exception is a bug and
    keeps its traceback.
    """


def naming_line(decode: Callable[[Any], Any], batch: Any, lines: Sequence[int]) -> Any:
    """`decode(batch)`, where a UserError gets the number of the line that causes it.

    `batch` is a list or a tensor with an item per line, and `lines` are their numbers.
    """
    try:
        return decode(batch)
    except UserError as error:
        if len(batch) == 1:
            raise UserError(f"line {lines[0]}: {error}") from error
        for place, line in enumerate(lines):
            naming_line(decode, batch[place : place + 1], [line])
        raise

"""The exception for mistakes that the user can fix, and the search for the line that causes it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

Result = TypeVar("Result")


class UserError(ValueError):
    """Invalid user input. `fairseq-nart` prints only the message, in one line.

    The message names the file, line or option, and what to do. Any other exception is a bug and
    keeps its traceback.
    """


def decode_each(
    decode: Callable[[Any, Any], Sequence[Result]],
    batch: Any,
    lines: Sequence[Any],
    failed: Callable[[Any, UserError], Result],
) -> Iterator[Result]:
    """The results of `decode(batch, lines)`. If it raises a UserError, halves are decoded apart.

    `batch` is a list or a tensor with an item per line, and `lines` are their numbers. The result
    of a line that cannot be decoded alone is that of `failed(line, error)`.
    """
    half = len(lines) // 2
    try:
        yield from decode(batch, lines)
        return
    except UserError as error:
        if not half:
            yield failed(lines[0], error)
            return
    for part in (slice(half), slice(half, None)):
        yield from decode_each(decode, batch[part], lines[part], failed)


def name_line(line: int, error: UserError) -> NoReturn:
    """Raises `error` again, with the number of its line."""
    raise UserError(f"line {line}: {error}") from error

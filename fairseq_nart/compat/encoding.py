"""Handles input of ``fairseq-interactive`` that is not UTF-8.

In fairseq, one such byte stops the program midway. Here it is read as the replacement character,
an unknown word, so every line gets an output; a single warning is logged. Lines end only at line
feeds, as in the other programs.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fairseq_nart.compat._patch import wrap
from fairseq_nart.text import bounded_lines, chunks, decode_lines


def fix_interactive_input() -> None:
    """Fix ``buffered_read`` if the interactive program is loaded.

    It is not imported here, because importing it configures logging for the whole process. Under
    ``python -m`` it is the main module.
    """
    for module in (sys.modules.get("fairseq_cli.interactive"), sys.modules.get("__main__")):
        if hasattr(module, "buffered_read") and hasattr(module, "make_batches"):
            wrap(module, "buffered_read", _buffered_read)
            wrap(module, "make_batches", _make_batches)


def _buffered_read(
    _original: Callable[..., Any], path: str, buffer_size: int
) -> Iterator[list[str]]:
    """Yield lists of up to ``buffer_size`` stripped lines of a file, or of stdin for ``-``."""
    with _open_input(path) as stream:
        yield from chunks((line.strip() for line in stream), buffer_size)


def _make_batches(
    original: Callable[..., Any], lines: list[str], cfg: Any, task: Any, *rest: Any
) -> Iterator[Any]:
    """Count the lines for the task, which names them in its messages."""
    first = getattr(task, "first_line", 1)
    for batch in original(lines, cfg, task, *rest):
        task.interactive_ids = batch.ids + first - 1
        yield batch
    task.first_line = first + len(lines)


@contextlib.contextmanager
def _open_input(path: str) -> Iterator[Iterable[str]]:
    if path != "-":
        with open(path, "rb") as stream:
            yield decode_lines(bounded_lines(stream, path), path)
    # Other streams, such as StringIO in tests, are already decoded.
    elif isinstance(sys.stdin, io.TextIOWrapper):
        name = "standard input"
        yield decode_lines(bounded_lines(sys.stdin.buffer, name), name)
    else:
        yield sys.stdin

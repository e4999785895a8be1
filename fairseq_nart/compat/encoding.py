"""Bytes that are not UTF-8 in the input of ``fairseq-interactive``.

One such byte stops the program after some of the lines are translated. Read as the replacement
character it becomes an unknown word, and every line gives one output, with one warning. A line ends
at a line feed alone, as in the other programs.
"""

import contextlib
import io
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fairseq_nart.compat._patch import wrap
from fairseq_nart.text import decode_lines


def mend_interactive_input() -> None:
    """Mend ``buffered_read`` where the interactive program is loaded.

    It is not imported here: importing it configures logging for the whole process. It is the
    main module when started by ``python -m``.
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
        lines = (line.strip() for line in stream)
        while some := list(itertools.islice(lines, buffer_size)):
            yield some


def _make_batches(
    original: Callable[..., Any], lines: list[str], cfg: Any, task: Any, *rest: Any
) -> Iterator[Any]:
    """Let the task know which lines come next, for its warnings."""
    yield from original(lines, cfg, task, *rest)
    task.first_line = getattr(task, "first_line", 1) + len(lines)


@contextlib.contextmanager
def _open_input(path: str) -> Iterator[Iterable[str]]:
    if path != "-":
        with open(path, "rb") as stream:
            yield decode_lines(stream, path)
    # Anything else (a test's StringIO) is decoded already.
    elif isinstance(sys.stdin, io.TextIOWrapper):
        yield decode_lines(sys.stdin.buffer, "standard input")
    else:
        yield sys.stdin

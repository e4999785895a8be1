"""Bytes that are no UTF-8 in the input of ``fairseq-interactive``.

One such byte stops the program after some of the lines are translated. Read as the replacement
character it becomes an unknown word, and every line gives one output. A line ends at a line feed
alone, as in the other programs.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from fairseq_nart.compat._patch import wrap


def mend_interactive_input() -> None:
    """Mend ``buffered_read`` where the interactive program is loaded.

    It is not imported here: importing it configures logging for the whole process. It is the
    main module when started by ``python -m``.
    """
    for module in (sys.modules.get("fairseq_cli.interactive"), sys.modules.get("__main__")):
        if hasattr(module, "buffered_read") and hasattr(module, "make_batches"):
            wrap(module, "buffered_read", _buffered_read)


def _buffered_read(
    _original: Callable[..., Any], path: str, buffer_size: int
) -> Iterator[list[str]]:
    """Yield lists of up to ``buffer_size`` stripped lines of a file, or of stdin for ``-``."""
    lines: list[str] = []
    with _open_input(path) as stream:
        for line in stream:
            lines.append(line.strip())
            if len(lines) >= buffer_size:
                yield lines
                lines = []
    if lines:
        yield lines


def _open_input(path: str) -> contextlib.AbstractContextManager[TextIO]:
    if path != "-":
        return open(path, encoding="utf-8", errors="replace", newline="\n")
    # Anything else (a test's StringIO) is decoded already.
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace", newline="\n")
    return contextlib.nullcontext(sys.stdin)

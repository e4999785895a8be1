"""How every program reads text: UTF-8, one sentence per line.

Only a line feed ends a line. A carriage return before it, and a byte order mark at the start of the
text, are dropped. Bytes that are not UTF-8 raise an error that names the file and line
(`read_lines`). A program that translates must answer every line, so it reads them as U+FFFD, with
one warning, and cuts endless lines (`decode_lines`).
"""

import codecs
import gzip
import logging
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from fairseq_nart.errors import UserError

logger = logging.getLogger(__name__)

LONGEST = 1 << 20
"""Most bytes of a line that `bounded_lines` yields."""

_CHARACTERS = 1 << 23
"""`chunks` begins another list after this many characters."""


def read_lines(file: Path) -> list[str]:
    """The lines of a text file, decompressed if its name ends in .gz.

    OSError if it cannot be opened. UserError names the file, and the line that is not UTF-8.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as stream:
            return [_decoded(line, number, str(file)) for number, line in enumerate(stream, 1)]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{file} is not a complete gzip file ({error})") from error


def bounded_lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The lines of the text `name`, each cut after its last whole word in `LONGEST` bytes.

    So a file without line feeds does not fill the memory. A warning names each line that is cut.
    """
    number = 0
    while line := stream.readline(LONGEST):
        number += 1
        if len(line) == LONGEST and not line.endswith(b"\n"):
            rest = 0
            while (more := stream.readline(LONGEST)) and not more.endswith(b"\n"):
                rest += len(more)
            if rest + len(more.rstrip(b"\r\n")):
                logger.warning(
                    "%s, line %d is longer than %d bytes: the rest is left out",
                    name,
                    number,
                    LONGEST,
                )
                line = line[: line.rfind(b" ")] if b" " in line else line
        yield line


def chunks(lines: Iterable[str], most: int) -> Iterator[list[str]]:
    """Lists of at most `most` consecutive lines, fewer if lines are very long."""
    chunk, characters = list[str](), 0
    for line in lines:
        chunk.append(line)
        characters += len(line)
        if len(chunk) == most or characters > _CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Decodes the lines of the text `name` one by one; bytes that are not UTF-8 become U+FFFD.

    A single warning names the first such line.
    """
    warned = False
    for number, line in enumerate(lines, 1):
        try:
            yield _decoded(line, number, name)
        except UserError as error:
            if not warned:
                logger.warning("%s; such bytes are translated as U+FFFD", error)
            warned = True
            yield _bare(line, number).decode("utf-8", errors="replace")


def _decoded(line: bytes, number: int, name: str) -> str:
    bare = _bare(line, number)
    try:
        text = bare.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte 0x{bare[error.start]:02x} at position {error.start + 1}"
    else:
        # English text in UTF-16 is valid UTF-8 too, but every second character is NUL.
        if text.count("\0") * 3 < len(text) or len(text) < 2:
            return text
        where = "every second byte is NUL"
    encoding = "UTF-16" if bare[:2] in _UTF16 or bare.count(0) * 3 >= len(bare) else "WINDOWS-1252"
    raise UserError(
        f"{name}, line {number} is not UTF-8 ({where}): convert the text, for example with "
        f"`iconv -f {encoding} -t UTF-8`"
    )


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _bare(line: bytes, number: int) -> bytes:
    """A line without its line ending and, if it is the first, without a byte order mark."""
    bare = line.removesuffix(b"\n").removesuffix(b"\r")
    return bare.removeprefix(codecs.BOM_UTF8) if number == 1 else bare

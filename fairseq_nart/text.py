"""Text as every program reads it: UTF-8, one sentence a line.

A line ends at a line feed alone; a carriage return before it and a byte order mark at the start of
the text are not part of a line. Bytes that are not UTF-8 are an error that names the file and the
line (`read_lines`). A program that translates must answer every line: it reads them as U+FFFD and
warns once (`decode_lines`).
"""

import codecs
import gzip
import logging
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


def read_lines(file: Path) -> list[str]:
    """The lines of a text file, decompressed where its name ends in .gz.

    OSError where it cannot be opened. ValueError names the file, and the line that is not UTF-8.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as stream:
            return [_decoded(line, number, str(file)) for number, line in enumerate(stream, 1)]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file} is not a whole gzip file ({error})") from error


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines of a text called `name`, as they come; bytes that are not UTF-8 become U+FFFD.

    The first such line is named in a warning, the only one.
    """
    warned = False
    for number, line in enumerate(lines, 1):
        try:
            yield _decoded(line, number, name)
        except ValueError as error:
            if not warned:
                logger.warning("%s; translated with U+FFFD in place of such bytes", error)
            warned = True
            yield _bare(line, number).decode("utf-8", errors="replace")


def _decoded(line: bytes, number: int, name: str) -> str:
    bare = _bare(line, number)
    try:
        text = bare.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte 0x{bare[error.start]:02x} at position {error.start + 1}"
    else:
        # UTF-16 of plain English is UTF-8 too: every second character is a NUL.
        if text.count("\0") * 3 < len(text) or len(text) < 2:
            return text
        where = "every second byte is NUL"
    encoding = "UTF-16" if bare[:2] in _UTF16 or bare.count(0) * 3 >= len(bare) else "WINDOWS-1252"
    raise ValueError(
        f"{name}, line {number} is not UTF-8 ({where}): convert the text, for example with "
        f"`iconv -f {encoding} -t UTF-8`"
    )


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _bare(line: bytes, number: int) -> bytes:
    """A line without its end and, where it is the first, without a byte order mark."""
    bare = line.removesuffix(b"\n").removesuffix(b"\r")
    return bare.removeprefix(codecs.BOM_UTF8) if number == 1 else bare

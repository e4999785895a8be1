"""Translates a folder of text or Parquet files with an exported model on a Ray cluster.

    python translate.py CORPUS TRANSLATED --model FOLDER --ray local

Every file CORPUS/NAME gives TRANSLATED/NAME: a text with a line for each line, or, of NAME.parquet,
all its columns and one more, `translation`. Files are divided into parts of some megabytes of text,
or the row groups of Parquet. Ray Data gives them to a worker for each core of the cluster, and
gives those of a worker that dies to another one. Each finished part is a file in TRANSLATED/parts,
so a call that was interrupted continues. The machines share the folders.

Lines of text end only at line feeds. Bytes that are not UTF-8 are translated as U+FFFD. A line that
cannot be translated is left empty and reported with the number of its line in its part.
"""

import argparse
import itertools
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet as parquet
import ray
import ray.data

from fairseq_nart import runtime
from fairseq_nart.errors import UserError
from fairseq_nart.files import exclusive, read_json, replacing, sha256, write_json
from fairseq_nart.text import bounded_lines, chunks, decode_lines
from fairseq_nart.tools import _decoding
from fairseq_nart.tools._cluster import LOCAL, cluster
from fairseq_nart.tools._lines import CHUNK, translated

BYTES = 4 << 20
"""Of text in a part, which a core translates in one or two minutes."""


@dataclass(frozen=True)
class Part:
    """The bytes of a text from `start` to `end`, moved to the next line, or a row group."""

    file: Path
    start: int
    end: int

    def output(self, out: Path) -> Path:
        return out / "parts" / f"{self.file.name}.{self.start}-{self.end}"

    @property
    def is_text(self) -> bool:
        return self.file.suffix != ".parquet"


def parts_of(file: Path, size: int) -> list[Part]:
    """The parts of a file, in order."""
    if file.suffix == ".parquet":
        return [Part(file, n, n + 1) for n in range(parquet.ParquetFile(file).num_row_groups)]
    whole = file.stat().st_size
    return [Part(file, start, min(start + size, whole)) for start in range(0, whole, size)]


def lines_of(part: Part, column: str) -> Iterator[str]:
    """The lines of a part: those that begin in it."""
    if not part.is_text:
        values = table_of(part, [column]).column(column).to_pylist()
        yield from (str(value or "").replace("\n", " ") for value in values)
        return
    with open(part.file, "rb") as stream:
        if part.start:  # a line that begins before belongs to the part before
            stream.seek(part.start - 1)
            while (piece := stream.readline(1 << 20)) and not piece.endswith(b"\n"):
                pass
        # Only the first line of a file can have a byte order mark, which decode_lines removes.
        before = [b"\n"] if part.start else []
        lines = decode_lines(itertools.chain(before, _next_lines(stream, part)), str(part.file))
        yield from itertools.islice(lines, len(before), None)


def _next_lines(stream: BinaryIO, part: Part) -> Iterator[bytes]:
    lines = bounded_lines(stream, str(part.file))
    while stream.tell() < part.end:
        yield next(lines)


def table_of(part: Part, columns: list[str] | None = None) -> pyarrow.Table:
    """The row group of a part. UserError if a column is missing."""
    file = parquet.ParquetFile(part.file)
    if missing := set(columns or ()) - set(file.schema_arrow.names):
        names = ", ".join(file.schema_arrow.names)
        raise UserError(f"{part.file} has no column {missing.pop()!r} (--column): it has {names}")
    return file.read_row_group(part.start, columns=columns)


class Worker:
    """The model in a process of its own, on one core."""

    def __init__(self, model: Path, out: Path, column: str, options: dict[str, Any]) -> None:
        self.model = runtime.load(model, threads=1, **options)
        self.out, self.column = out, column

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Writes the translation of a part and returns the number of its lines."""
        part = Part(Path(row["file"]), int(row["start"]), int(row["end"]))
        first, errors, texts = 1, list[UserError](), list[str]()
        for lines in chunks(lines_of(part, self.column), CHUNK):
            texts += translated(lines, first, 64, self.model.translate, errors)
            first += len(lines)
        with replacing(part.output(self.out)) as temporary:
            if part.is_text:
                temporary.write_bytes("".join(f"{text}\n" for text in texts).encode())
            else:
                column = pyarrow.array(texts, pyarrow.string())
                parquet.write_table(table_of(part).append_column("translation", column), temporary)
        return {"lines": len(texts), "errors": [f"{part.output(self.out)}: {e}" for e in errors]}


def join(file: Path, parts: list[Part], out: Path) -> None:
    """Writes the translation of a file from those of its parts."""
    with replacing(out / file.name) as temporary:
        if not parts or parts[0].is_text:
            with open(temporary, "wb") as stream:
                for part in parts:
                    with open(part.output(out), "rb") as translation:
                        shutil.copyfileobj(translation, stream)
            return
        schema = parquet.read_schema(parts[0].output(out))
        with parquet.ParquetWriter(temporary, schema) as writer:
            for part in parts:
                writer.write_table(parquet.read_table(part.output(out)))


def translate(options: argparse.Namespace) -> None:
    """Translates the parts that are missing, then joins them. UserError for bad input."""
    files = sorted(file for file in options.corpus.resolve().iterdir() if file.is_file())
    for file in files:
        if file.suffix in (".gz", ".bz2", ".xz", ".zst"):
            raise UserError(f"{file} is compressed, so it cannot be divided: unpack it")
    decoding = _decoding.decoding(options)
    out, model = options.out.resolve(), options.model.resolve()
    settings = {
        "model": sha256(model / "manifest.json"),
        "options": decoding,
        "column": options.column,
        "bytes": options.bytes,
        "files": {file.name: file.stat().st_size for file in files},
    }
    known = read_json(out / "parts" / "settings.json")
    if known not in (None, settings):
        changed = next(name for name in settings if known.get(name) != settings[name])
        raise UserError(f"{out} was begun with other {changed}: give another folder")
    write_json(out / "parts" / "settings.json", settings)
    parts = {file: parts_of(file, options.bytes) for file in files}
    missing = [
        {"file": str(part.file), "start": part.start, "end": part.end}
        for file in files
        for part in parts[file]
        if not (out / file.name).exists() and not part.output(out).exists()
    ]
    begin, lines, failed = time.monotonic(), 0, 0
    if missing:
        results = ray.data.from_items(missing, override_num_blocks=len(missing)).map(
            Worker,
            fn_constructor_args=(model, out, options.column, decoding),
            num_cpus=1,
            concurrency=int(ray.cluster_resources()["CPU"]),
        )
        for result in results.iter_rows():
            lines += int(result["lines"])
            failed += len(result["errors"])
            for error in result["errors"]:
                print(error, file=sys.stderr)
    for file in files:
        if not (out / file.name).exists():
            join(file, parts[file], out)
    shutil.rmtree(out / "parts")
    seconds = time.monotonic() - begin
    print(f"{lines} lines in {len(missing)} parts, {lines / max(seconds, 1e-9):.0f} lines/s")
    if failed:
        raise UserError(f"{failed} lines have no translation: see the messages above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=runtime.demo_folder())
    parser.add_argument("--ray", default=LOCAL, help="HOST:PORT, auto or local (default)")
    parser.add_argument("--column", default="text", help="of Parquet files (default: text)")
    parser.add_argument("--bytes", type=int, default=BYTES, help="of text in a part")
    _decoding.add_arguments(parser)
    options = parser.parse_args()
    (options.out / "parts").mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(options.out), cluster(options.ray):
            translate(options)
    except (OSError, UserError) as error:
        parser.exit(1, f"translate.py: {error}\n")


if __name__ == "__main__":
    main()

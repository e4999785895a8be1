"""Links in Pharaoh format: a line per sentence, `i-j` for source word i and target word j."""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_nart.data.splits import Split
from fairseq_nart.errors import UserError
from fairseq_nart.files import sha256
from fairseq_nart.tools.alignment.repair import CHUNK, Ints, Links

LINE = re.compile(rb"\s*(\d+-\d+(\s+\d+-\d+)*)?\s*")


class PharaohAligner:
    """Reads the links that another aligner has written."""

    def __init__(self, splits: Sequence[str], files: Sequence[Path]) -> None:
        """UserError where the number of files is not that of the splits."""
        if len(files) != len(splits):
            raise UserError(
                f"--pharaoh names {len(files)} files and --splits {len(splits)} splits: give one "
                "file per split, in the same order"
            )
        self.files = dict(zip(splits, files, strict=True))

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of `split`, apart from its sentences."""
        return {"method": "pharaoh", "sha256 of --pharaoh": sha256(self.files[split.name])}

    def links(self, split: Split) -> Iterator[Links]:
        """Yields the links of a split, CHUNK sentences at a time."""
        return read_pharaoh(self.files[split.name], split)


def read_pharaoh(file: Path, split: Split, first: int = 0, last: bool = True) -> Iterator[Links]:
    """Yields the links of a split, CHUNK sentences at a time; words count from 0.

    They begin at line `first`, counted from 0; with `last` the file must end after them. UserError
    names the file and line of a malformed link or of a word outside its sentence, or a file with
    too few or too many lines.
    """
    sizes = [np.asarray(side.sizes, dtype=np.int64) for side in (split.source, split.target)]
    count = len(sizes[0])
    with open(file, "rb") as stream:
        lines = itertools.islice(stream, first, None)
        for start in range(0, count, CHUNK):
            rows = slice(start, min(start + CHUNK, count))
            yield _chunk(file, lines, first + start + 1, *(x[rows] - 1 for x in sizes))
        if last and next(lines, None) is not None:
            raise UserError(
                f"{file} has more lines than {split.name} has sentences ({count}): it belongs to "
                "other data"
            )


def _chunk(file: Path, lines: Iterator[bytes], number: int, sources: Ints, targets: Ints) -> Links:
    """The links of the next lines, from line `number`; sources and targets are word counts."""
    counts, words = [], list[int]()
    for row in range(len(sources)):
        line = next(lines, None)
        if line is None:
            raise UserError(
                f"{file} ends after line {number + row - 1}, before the data: it must have one "
                "line, possibly empty, for every sentence"
            )
        if not LINE.fullmatch(line):
            text = line.decode("utf-8", "replace").strip()
            shown = text if len(text) <= 60 else f"{text[:60]}..."
            raise UserError(f"{file}, line {number + row}: {shown!r} is not a list of links i-j")
        numbers = line.replace(b"-", b" ").split()
        counts.append(len(numbers) // 2)
        words.extend(map(int, numbers))
    pairs = np.array(words, dtype=np.int64).reshape(-1, 2)
    sentence = np.repeat(np.arange(len(counts)), counts)
    outside = (pairs[:, 0] >= sources[sentence]) | (pairs[:, 1] >= targets[sentence])
    if outside.any():
        bad = int(outside.argmax())
        row = int(sentence[bad])
        raise UserError(
            f"{file}, line {number + row}: the link {pairs[bad, 0]}-{pairs[bad, 1]} is outside the "
            f"sentence, which has {sources[row]} source and {targets[row]} target words (subwords "
            "of the binarised data, counted from 0)"
        )
    return Links(sentence, pairs[:, 0], pairs[:, 1])

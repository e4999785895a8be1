"""Links as word aligners write them: a line per sentence, `i-j` for source word i and target j."""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_nart.files import sha256
from fairseq_nart.tools.alignment.repair import CHUNK, Ints, Links
from fairseq_nart.tools.distillation.data import Split

LINE = re.compile(rb"\s*(\d+-\d+(\s+\d+-\d+)*)?\s*")


class PharaohAligner:
    """Takes the links that another aligner has written."""

    def __init__(self, splits: Sequence[str], files: Sequence[Path]) -> None:
        """ValueError where there is not a file for each split."""
        if len(files) != len(splits):
            raise ValueError(
                f"--pharaoh names {len(files)} files and --splits {len(splits)} splits: give a "
                "file for each split, in their order"
            )
        self.files = dict(zip(splits, files, strict=True))

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of `split` beside its sentences."""
        return {"method": "pharaoh", "sha256 of --pharaoh": sha256(self.files[split.name])}

    def links(self, split: Split) -> Iterator[Links]:
        """The links of a split, CHUNK sentences at a time."""
        return read_pharaoh(self.files[split.name], split)


def read_pharaoh(file: Path, split: Split, first: int = 0, last: bool = True) -> Iterator[Links]:
    """The links of a split, CHUNK sentences at a time; words count from 0.

    They begin on line `first`, counted from 0, and with `last` end where the file does. ValueError
    naming file and line for what is no link, for a word outside its sentence, and for a file with
    fewer or more lines than there are sentences.
    """
    sizes = [np.asarray(side.sizes, dtype=np.int64) for side in (split.source, split.target)]
    count = len(sizes[0])
    with open(file, "rb") as stream:
        lines = itertools.islice(stream, first, None)
        for start in range(0, count, CHUNK):
            here = slice(start, min(start + CHUNK, count))
            yield _chunk(file, lines, first + start + 1, *(x[here] - 1 for x in sizes))
        if last and next(lines, None) is not None:
            raise ValueError(
                f"{file} has more lines than {split.name} has sentences ({count}): it belongs to "
                "other data"
            )


def _chunk(file: Path, lines: Iterator[bytes], number: int, sources: Ints, targets: Ints) -> Links:
    """The next lines, the first of which is line `number`; sources and targets count words."""
    counts, words = [], list[int]()
    for row in range(len(sources)):
        line = next(lines, None)
        if line is None:
            raise ValueError(
                f"{file} ends after line {number + row - 1} and the data go on: it must have one "
                "line for every sentence, be it empty"
            )
        if not LINE.fullmatch(line):
            text = line.decode("utf-8", "replace").strip()
            shown = text if len(text) <= 60 else f"{text[:60]}..."
            raise ValueError(f"{file}, line {number + row}: {shown!r} is no list of links i-j")
        found = line.replace(b"-", b" ").split()
        counts.append(len(found) // 2)
        words.extend(map(int, found))
    pairs = np.array(words, dtype=np.int64).reshape(-1, 2)
    sentence = np.repeat(np.arange(len(counts)), counts)
    outside = (pairs[:, 0] >= sources[sentence]) | (pairs[:, 1] >= targets[sentence])
    if outside.any():
        bad = int(outside.argmax())
        row = int(sentence[bad])
        raise ValueError(
            f"{file}, line {number + row}: the link {pairs[bad, 0]}-{pairs[bad, 1]} is outside the "
            f"sentence, which has {sources[row]} source and {targets[row]} target words (pieces of "
            "the binarised data, counted from 0)"
        )
    return Links(sentence, pairs[:, 0], pairs[:, 1])

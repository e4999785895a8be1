"""Phrase tables as files of tab-separated text, written by `fairseq-nart phrase-table`.

The first line holds the word `phrases`, the source and the target language, and the SHA-256 of both
dictionaries. Every other line holds a source phrase, a target phrase, the probability of the target
phrase given the source phrase, and how often the pair occurs. The subwords of a phrase are divided
by spaces.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fairseq.data import Dictionary

from fairseq_nart.errors import UserError
from fairseq_nart.files import replacing
from fairseq_nart.layers.phrases import NONE, Ints, PhraseTable
from fairseq_nart.text import read_lines

FIRST_WORD = "phrases"


@dataclass(frozen=True)
class Sides:
    """What a table belongs to: languages and dictionaries, the source's first."""

    languages: tuple[str, str]
    dictionaries: tuple[Dictionary, Dictionary]

    def header(self) -> list[str]:
        """The columns of the first line."""
        return [FIRST_WORD, *self.languages, *map(sha256_of, self.dictionaries)]

    def passed(self) -> Ints:
        """(source vocabulary,) the target token with the same symbol, or else the unknown word."""
        source, target = self.dictionaries
        return np.array([target.index(symbol) for symbol in source.symbols])


def sha256_of(dictionary: Dictionary) -> str:
    """Hexadecimal SHA-256 of the symbols, one per line."""
    digest = hashlib.sha256()
    for symbol in dictionary.symbols:
        digest.update(f"{symbol}\n".encode())
    return digest.hexdigest()


def write(
    file: Path, sides: Sides, pairs: Iterable[tuple[list[int], list[int], float, int]]
) -> None:
    """Writes a table. A pair is source and target tokens, probability and count."""
    source, target = sides.dictionaries
    with replacing(file) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        print(*sides.header(), sep="\t", file=stream)
        for tokens, translation, probability, count in pairs:
            phrases = (
                " ".join(x[i] for i in y) for x, y in ((source, tokens), (target, translation))
            )
            print(*phrases, f"{probability:.6g}", count, sep="\t", file=stream)


def read(file: Path, sides: Sides) -> PhraseTable:
    """The most probable target phrase of each source phrase; of equally probable ones the first.

    UserError names the file and line that is malformed, and a table of other languages or
    dictionaries.
    """
    lines = iter(read_lines(file))
    _require_same(file, next(lines, "").split("\t"), sides.header())
    best: dict[tuple[int, ...], tuple[float, list[int]]] = {}
    for number, line in enumerate(lines, 2):
        try:
            source, target, probability = _pair(line, sides)
        except UserError as error:
            raise UserError(f"{file}, line {number}: {error}") from error
        known = best.get(source)
        if known is None or probability > known[0]:
            best[source] = (probability, target)
    if not best:
        raise UserError(f"{file} holds no phrases: run fairseq-nart phrase-table with more data")
    targets = [target for _, target in best.values()]
    return PhraseTable.build(_filled(list(best)), _filled(targets), sides.passed())


def _require_same(file: Path, theirs: list[str], ours: list[str]) -> None:
    """UserError if the header of `file` is not that of this data."""
    again = "make one with fairseq-nart phrase-table and this data"
    if len(theirs) != len(ours) or theirs[0] != FIRST_WORD:
        raise UserError(
            f"{file}, line 1: a phrase table begins with {FIRST_WORD!r}, two languages and two "
            f"checksums, divided by tabs: {again}"
        )
    if theirs[1:3] != ours[1:3]:
        raise UserError(
            f"{file} translates {theirs[1]} to {theirs[2]}, but the data are "
            f"{ours[1]} to {ours[2]}: {again}"
        )
    for place, side in ((3, "source"), (4, "target")):
        if theirs[place] != ours[place]:
            raise UserError(
                f"{file} was made with another {side} dictionary, and so with other subwords, than "
                f"the data's: {again}"
            )


def _pair(line: str, sides: Sides) -> tuple[tuple[int, ...], list[int], float]:
    """Source tokens, target tokens and probability of a line; UserError says what is wrong."""
    columns = line.split("\t")
    if len(columns) < 3:
        raise UserError(
            "it needs a source phrase, a target phrase and a probability, divided by tabs"
        )
    source, target = map(_tokens, columns, sides.dictionaries)
    try:
        probability = float(columns[2])
    except ValueError:
        probability = 0.0
    if not 0 < probability <= 1:
        raise UserError(f"{columns[2]!r} is not a probability")
    return tuple(source), target, probability


def _tokens(phrase: str, dictionary: Dictionary) -> list[int]:
    tokens = []
    for word in phrase.split(" "):
        token = dictionary.indices.get(word, 0)
        if token < dictionary.nspecial:
            raise UserError(f"{word!r} in {phrase!r} is not a subword of the dictionary")
        tokens.append(token)
    return tokens


def _filled(phrases: list[tuple[int, ...]] | list[list[int]]) -> Ints:
    """(phrases,longest), filled with `NONE`."""
    rows = np.full((len(phrases), max(map(len, phrases))), NONE)
    sizes = np.array([len(phrase) for phrase in phrases])
    rows[np.arange(rows.shape[1]) < sizes[:, None]] = [i for phrase in phrases for i in phrase]
    return rows

"""CTranslate2's vocabulary map: the target tokens that a sentence's source tokens allow.

Its decoder then scores these tokens instead of the whole vocabulary. IBM's model 1, estimated on
the training data, chooses them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairseq_nart.data.splits import Split
from fairseq_nart.tools._teacher import Teacher

SENTENCES = 50_000
"""Most training sentences to use, spread over all; 30,000 of 14 tokens take ten seconds."""

ROUNDS, BEST, ALWAYS = 5, 20, 100
"""Rounds of EM; target tokens for each source token, and for all, the most frequent ones."""


def write(file: Path, teacher: Teacher) -> None:
    """Writes the map for the training data that the teacher is loaded with, as CTranslate2 reads
    it: a source token, a tab and target tokens on each line; no source token for all sentences."""
    split = Split.open(teacher.data, "train", teacher.languages)
    size, links = len(teacher.target), _links(split, len(teacher.target))
    pairs, counts = np.unique(links[0], return_inverse=True)
    source = pairs // size
    chance = np.ones(len(pairs))
    for _ in range(ROUNDS):  # p(target token | source token)
        joint = chance[counts]
        share = joint / np.bincount(links[1], joint)[links[1]]
        expected = np.bincount(counts, share)
        chance = expected / np.bincount(source, expected)[source]
    frequent = np.bincount(pairs % size, expected).argsort()[::-1][:ALWAYS]
    best = np.lexsort((-chance, source))
    symbols, special = teacher.target.symbols, teacher.target.nspecial
    with open(file, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(f"\t{' '.join(symbols[n] for n in frequent if n >= special)}\n")
        for some in np.split(best, np.flatnonzero(np.diff(source[best])) + 1):
            token = teacher.source.symbols[source[some[0]]]
            chosen = [symbols[n] for n in pairs[some[:BEST]] % size if n >= special]
            # A name or a number is its own translation.
            own = [token] if token in teacher.target.indices else []
            stream.write(f"{token}\t{' '.join(dict.fromkeys([*chosen, *own]))}\n")


def _links(split: Split, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every source token with every target token of its sentence: as source · size + target, and
    the number of the target token in the text."""
    first, pairs, places = 0, [], []
    for source, target in _sentences(split):
        pairs.append((source[:, None] * size + target).ravel())
        places.append(np.broadcast_to(first + np.arange(len(target)), (len(source), len(target))))
        first += len(target)
    return np.concatenate(pairs), np.concatenate([some.ravel() for some in places])


def _sentences(split: Split) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Token ids without EOS."""
    step = max(1, len(split.source) // SENTENCES)
    for index in range(0, len(split.source), step):
        source, target = (side[index].numpy()[:-1] for side in (split.source, split.target))
        yield source.astype(np.int64), target.astype(np.int64)

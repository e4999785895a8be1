"""Phrase pairs from word alignments, and their relative frequencies (Koehn et al. 2003).

A source and a target phrase are a pair if they have a link, and no link leads from one of them to
a word outside the other. Words without a link may be at the ends of a phrase.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairseq_nart.layers.phrases import NONE
from fairseq_nart.tools.alignment.repair import Ints, Links

Rows = NDArray[np.int32]


def pairs(links: Links, source: Ints, target: Ints, sizes: tuple[Ints, Ints], longest: int) -> Rows:
    """All phrase pairs of consecutive sentences, up to `longest` words on each side.

    source and target hold the tokens of all sentences without their ends, one sentence after
    another; sizes, both (sentences,), are their numbers -> (pairs,2,longest), filled with `NONE`.
    """
    starts = [np.cumsum(size) - size for size in sizes]
    j, i = links.source + starts[0][links.sentence], links.target + starts[1][links.sentence]
    first, last = _reach(j, i, len(source))  # linked targets of each source word
    first_source, last_source = _reach(i, j, len(target))
    linked = last_source >= 0
    ends = [np.repeat(start + size, size) for start, size in zip(starts, sizes, strict=True)]
    # For each target word, how many words before and after it have no link, in its sentence.
    before = _run(linked, np.repeat(starts[1], sizes[1]), longest)
    after = _run(linked[::-1], len(target) - ends[1][::-1], longest)[::-1]
    rows = []
    for width in range(1, longest + 1):
        (begin,) = np.nonzero(np.arange(len(source)) + width <= ends[0])
        span = begin[:, None] + np.arange(width)
        low, high = first[span].min(axis=1), last[span].max(axis=1)
        fits = (high >= 0) & (high - low < longest)
        begin, low, high = begin[fits], low[fits], high[fits]
        inside = np.minimum(low[:, None] + np.arange(longest), high[:, None])
        lowest, highest = first_source[inside].min(axis=1), last_source[inside].max(axis=1)
        closed = (lowest >= begin) & (highest < begin + width)
        begin, low, high = begin[closed], low[closed], high[closed]
        for left in range(longest):
            for right in range(longest - left):
                fits = (before[low] >= left) & (after[high] >= right)
                fits &= high - low + 1 + left + right <= longest
                source_words = _words(source, begin[fits], begin[fits] + width, longest)
                stop = high[fits] + right + 1
                target_words = _words(target, low[fits] - left, stop, longest)
                rows.append(np.stack([source_words, target_words], axis=1))
    return np.concatenate(rows)


def _reach(words: Ints, others: Ints, count: int) -> tuple[Ints, Ints]:
    """The first and the last of `others` that each of `count` words is linked to.

    Without a link they are beyond any word, and -1.
    """
    first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(first, words, others)
    np.maximum.at(last, words, others)
    return first, last


def _run(linked: NDArray[np.bool_], starts: Ints, most: int) -> Ints:
    """(n,) number of words directly before each one that have no link, at most `most`; starts (n,)
    is where its sentence starts."""
    places = np.arange(len(linked))
    previous = np.maximum.accumulate(np.where(linked, places, -1))
    nearest = np.append(-1, previous[:-1])[: len(linked)]
    result: Ints = np.minimum(places - np.maximum(nearest + 1, starts), most)
    return result


def _words(tokens: Ints, begin: Ints, end: Ints, longest: int) -> Rows:
    """(phrases,longest) the tokens from `begin` to before `end`, filled with `NONE`."""
    places = begin[:, None] + np.arange(longest)
    words = tokens[np.minimum(places, len(tokens) - 1)] if len(tokens) else places
    return np.where(places < end[:, None], words, NONE).astype(np.int32)


@dataclass
class PhraseCounts:
    """Distinct phrase pairs and how often each occurs, in the order of their token ids."""

    rows: Rows
    """(pairs,2,longest)"""
    counts: Ints

    @classmethod
    def none(cls, longest: int) -> "PhraseCounts":
        return cls(np.empty((0, 2, longest), np.int32), np.empty(0, np.int64))

    def add(self, rows: Rows) -> "PhraseCounts":
        """These counts, and one more for each of `rows`."""
        every = np.concatenate([self.rows, rows])
        counts = np.concatenate([self.counts, np.ones(len(rows), np.int64)])
        flat = every.reshape(len(every), 2 * every.shape[2])
        order = np.lexsort(flat.T[::-1])
        first = _changes(flat[order])
        return PhraseCounts(every[order][first], _sums(counts[order], first))

    def best(self, least: int) -> tuple["PhraseCounts", NDArray[np.float64]]:
        """The most frequent target phrase of each source phrase, and its relative frequency.

        Of equally frequent ones the first in the order of token ids, shorter ones first. Pairs that
        occur fewer than `least` times are left out; they count in the frequencies.
        """
        first = _changes(self.rows[:, 0])
        totals = _sums(self.counts, first)
        group = np.cumsum(first) - 1
        order = np.lexsort((-self.counts, group))  # stable
        chosen = order[np.flatnonzero(first)]  # each group keeps its place
        chosen = chosen[self.counts[chosen] >= least]
        counts = self.counts[chosen]
        return PhraseCounts(self.rows[chosen], counts), counts / totals[group[chosen]]


def _changes(rows: Rows) -> NDArray[np.bool_]:
    """(n,): which rows differ from the one before."""
    differs = (rows[1:] != rows[:-1]).any(axis=1)
    return np.append(True, differs)[: len(rows)]


def _sums(counts: Ints, first: NDArray[np.bool_]) -> Ints:
    """The sum of each group of `counts`; groups begin where `first` is True."""
    begins = np.flatnonzero(first)
    result: Ints = np.add.reduceat(counts, begins) if len(begins) else counts
    return result

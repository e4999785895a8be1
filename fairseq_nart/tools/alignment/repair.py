"""Turns any word alignment into valid fertilities: every target token has exactly one owner.

The owner of a target token is the source token it is aligned to. A sentence has J source words and
I target words, each side followed by the end of sentence. All sentences of a chunk are processed
at once, in flat arrays that hold their tokens one after another.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairseq_nart.layers.fertility import CLASSES

Ints = NDArray[np.int64]
LARGEST = CLASSES - 1

CHUNK = 2**15
"""Consecutive sentences whose links are in memory at a time."""


@dataclass(frozen=True)
class Links:
    """Aligned words of consecutive sentences, in any order; all arrays are (links,)."""

    sentence: Ints
    """Counted from 0, the first sentence of the chunk."""
    source: Ints
    """Words counted from 0; ends of sentence have no links."""
    target: Ints


def _starts(sizes: Ints) -> Ints:
    return np.cumsum(sizes) - sizes


def fertilities(links: Links, sources: Ints, targets: Ints) -> tuple[Ints, Counter[str]]:
    """sources and targets (sentences,), lengths with the end -> flat fertilities, and statistics.

    Of several owners the one nearest the diagonal is kept; of two equally near, the first. A target
    without an owner takes that of the target before it, or at the start of a sentence that of the
    first target that has one. If no target has one, they are spread evenly over the source words.
    The end of sentence owns the end of sentence. Fertility above 49 moves to the nearest tokens
    that have room.
    """
    source_starts, target_starts = _starts(sources), _starts(targets)
    count = int(targets.sum())
    sentence = np.repeat(np.arange(len(targets)), targets)  # for each flat target
    place = np.arange(count) - target_starts[sentence]
    is_end = place == targets[sentence] - 1

    owner, several = _nearest_the_diagonal(links, sources, targets, target_starts, count)
    unaligned = (owner < 0) & ~is_end
    # The nearest target with an owner at or before each one; none if before its sentence's start.
    known = np.flatnonzero(owner >= 0)
    last = np.searchsorted(known, np.arange(count), side="right") - 1
    before = np.where(last >= 0, known[last], -1) if len(known) else np.full(count, -1)
    after = np.append(known, count)[last + 1] if len(known) else np.full(count, count)
    ends = target_starts + targets
    nearest = np.where(before >= target_starts[sentence], before, after)
    none = nearest >= ends[sentence]
    words = np.maximum(sources - 1, 1)[sentence]  # in an empty source the end owns everything
    spread = place * words // np.maximum(targets[sentence] - 1, 1)
    owner = np.where(none, spread, owner[np.minimum(nearest, count - 1)])
    owner = np.where(is_end, sources[sentence] - 1, owner)

    flat = np.bincount(source_starts[sentence] + owner, minlength=int(sources.sum()))
    too_large = np.unique(np.searchsorted(source_starts, np.flatnonzero(flat > LARGEST), "right"))
    for number in too_large - 1:
        start = source_starts[number]
        _spill(flat[start : start + sources[number]])
    return flat, Counter(
        target_words=int((~is_end).sum()),
        unaligned_target_words=int(unaligned.sum()),
        target_words_with_several_links=several,
        sentences_without_links=int((none & is_end & (targets[sentence] > 1)).sum()),
        sentences_with_fertilities_beyond_49=len(too_large),
        fertilities_clamped_in_training=int((flat > LARGEST).sum()),
    )


def _nearest_the_diagonal(
    links: Links, sources: Ints, targets: Ints, starts: Ints, count: int
) -> tuple[Ints, int]:
    """The source word of each flat target, -1 for none, and how many targets had several."""
    owner = np.full(count, -1)
    k, j, i = links.sentence, links.source, links.target
    # |(j + 1/2) / J - (i + 1/2) / I|, times 2 I J
    distance = np.abs((2 * j + 1) * (targets[k] - 1) - (2 * i + 1) * (sources[k] - 1))
    flat = starts[k] + i
    order = np.lexsort((j, distance, flat))
    flat, j = flat[order], j[order]
    chosen = np.append(True, flat[1:] != flat[:-1])[: len(flat)]
    owner[flat[chosen]] = j[chosen]
    another = np.append(False, (flat[1:] == flat[:-1]) & (j[1:] != j[:-1]))[: len(flat)]
    return owner, len(np.unique(flat[another]))


def _spill(one: Ints) -> None:
    """Moves fertility above 49, in place; what fits nowhere in the sentence stays."""
    for place in np.flatnonzero(one > LARGEST):
        nearest = np.argsort(np.abs(np.arange(len(one)) - place), kind="stable")
        for other in nearest[1:]:
            moved = max(0, min(one[place] - LARGEST, LARGEST - one[other]))
            one[place] -= moved
            one[other] += moved

"""Sentences in groups by length."""

from collections.abc import Sequence

import numpy as np

GROUPS = 6
"""With about equally many sentences each."""


def by_size(sizes: Sequence[int]) -> list[tuple[tuple[int, int], list[int]]]:
    """The least and the largest size of each group, and the numbers of its sentences.

    Sentences of one size share a group, so groups can be fewer than GROUPS and of unlike numbers.
    """
    inner = np.linspace(0, 1, GROUPS + 1)[1:-1]
    edges = np.unique(np.quantile(sizes, inner, method="nearest"))
    group = np.searchsorted(edges, sizes)
    members = [np.flatnonzero(group == number).tolist() for number in range(len(edges) + 1)]
    return [
        ((min(sizes[i] for i in found), max(sizes[i] for i in found)), found)
        for found in members
        if found
    ]

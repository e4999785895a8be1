"""Groups sentences by length."""

from collections.abc import Sequence

import numpy as np

GROUPS = 6
"""Number of groups, of about the same number of sentences."""


def by_size(sizes: Sequence[int]) -> list[tuple[tuple[int, int], list[int]]]:
    """The smallest and the largest size of each group, and the indices of its sentences.

    Sentences of one size share a group, so there can be fewer groups, of different sizes.
    """
    inner = np.linspace(0, 1, GROUPS + 1)[1:-1]
    edges = np.unique(np.quantile(sizes, inner, method="nearest"))
    group = np.searchsorted(edges, sizes)
    members = [np.flatnonzero(group == number).tolist() for number in range(len(edges) + 1)]
    return [
        ((min(sizes[i] for i in indices), max(sizes[i] for i in indices)), indices)
        for indices in members
        if indices
    ]

"""A phrase table: source phrases, each with one target phrase. Needs NumPy alone.

The plugin and exported models look phrases up with the same code.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NONE = -1
"""Fills the rows of phrases that are shorter than others."""


@dataclass(frozen=True)
class PhraseTable:
    """The source phrases as a trie. Node 0 is its root; node n ends the prefix of edge n - 1."""

    edges: Ints
    """(nodes,) parent node x `vocabulary` + source token, ascending."""
    starts: Ints
    """(nodes+1,) the target phrase of node n is targets[starts[n-1]:starts[n]]. It is empty if no
    phrase ends there."""
    targets: Ints
    """(tokens,) all target phrases."""
    passed: Ints
    """(vocabulary,) the target token of each source token that begins no phrase."""

    @classmethod
    def build(cls, sources: Ints, targets: Ints, passed: Ints) -> Self:
        """Source and target phrases (phrases,longest), filled with `NONE`; the sources differ."""
        parents, edges, nodes = np.zeros(len(sources), np.int64), list[Ints](), 0
        for column in sources.T:
            (longer,) = np.nonzero(column != NONE)
            keys = parents[longer] * len(passed) + column[longer]
            new, place = np.unique(keys, return_inverse=True)
            parents[longer] = nodes + 1 + place.reshape(-1)
            edges.append(new)
            nodes += len(new)
        order = np.argsort(parents)
        ends = np.zeros(nodes + 1, np.int64)
        ends[parents] = (targets != NONE).sum(axis=1)
        flat = targets[order]
        return cls(np.concatenate(edges), np.cumsum(ends), flat[flat != NONE], passed)

    @classmethod
    def empty(cls, passed: Ints) -> Self:
        """A table without phrases."""
        none = np.empty((0, 1), np.int64)
        return cls.build(none, none, passed)

    @cached_property
    def most_tokens(self) -> int:
        """Length of the longest target phrase, at least 1."""
        return int(np.diff(self.starts).max(initial=1))

    @cached_property
    def pool(self) -> Ints:
        """All target phrases, then the target token of each source token."""
        return np.concatenate([self.targets, self.passed])

    def longest_matches(self, tokens: Ints) -> tuple[Ints, Ints]:
        """tokens (n,) -> length and node of the longest phrase that begins at each of them.

        Where none begins, the length is 1 and the node 0.
        """
        count, vocabulary = len(tokens), len(self.passed)
        length, best = np.ones(count, np.int64), np.zeros(count, np.int64)
        places = np.arange(count)
        nodes, reached = best, 0
        while len(places):
            keys = nodes * vocabulary + tokens[places + reached]
            index = np.searchsorted(self.edges, keys)
            index[index == len(self.edges)] = 0  # then it differs, too
            known = self.edges[index] == keys if len(self.edges) else np.zeros(len(keys), bool)
            places, nodes = places[known], index[known] + 1
            reached += 1
            ends = self.starts[nodes] > self.starts[nodes - 1]
            length[places[ends]], best[places[ends]] = reached, nodes[ends]
            inside = places + reached < count
            places, nodes = places[inside], nodes[inside]
        return length, best

    def look_up(self, tokens: Ints, mask: Bools, pad: int) -> Ints:
        """Replaces the longest known phrases from left to right; other tokens are passed on.

        tokens and mask (B,S), padded on either side; the EOS ends each sentence and is in no phrase
        -> (B,P) target tokens, padded on the right.
        """
        flat, sizes = tokens[mask], mask.sum(axis=1)
        length, node = self.longest_matches(flat)
        begins = _reached(np.arange(len(flat)) + length, np.cumsum(sizes) - sizes)
        node, token = node[begins], flat[begins]
        counts = np.where(node > 0, self.starts[node] - self.starts[node - 1], 1)
        first = np.where(node > 0, self.starts[node - 1], len(self.targets) + token)
        before = np.cumsum(counts) - counts
        words = self.pool[np.repeat(first - before, counts) + np.arange(counts.sum())]
        sentence = np.repeat(np.arange(len(sizes)), sizes)[begins]
        totals = np.bincount(sentence, counts, len(sizes)).astype(np.int64)
        result = np.full((len(sizes), totals.max(initial=0)), pad, np.int64)
        result[np.arange(result.shape[1]) < totals[:, None]] = words
        return result


def _reached(following: Ints, first: Ints) -> Bools:
    """(n,): which places are reached from those of `first` by following `following` (n,)."""
    count = len(following)
    jump = np.append(np.minimum(following, count), count)
    reached = np.zeros(count + 1, bool)
    reached[first] = True
    for _ in range(max(count - 1, 1).bit_length()):
        reached[jump[reached]] = True
        jump = jump[jump]
    return reached[:-1]

"""Enumeration of all paths of a small chain, and random small chains for tests."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor


@dataclass
class Problem:
    """Emissions (B, T, K), transitions (B, T-1, K, K) and a ragged mask (B, T), in float64."""

    emissions: Tensor
    transitions: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Problem:
        return Problem(self.emissions.to(device), self.transitions.to(device), self.mask.to(device))

    @property
    def lengths(self) -> list[int]:
        return [int(n) for n in self.mask.sum(dim=1)]

    def random_path(self) -> Tensor:
        """A path (B, T) with arbitrary slots at padding; a function of the emissions."""
        return (self.emissions * 1e3).long().sum(dim=2).abs() % self.emissions.shape[2]


@st.composite
def problems(
    draw: st.DrawFn,
    max_slots: int = 5,
    max_length: int = 5,
    scales: tuple[float, ...] = (1.0, 30.0),
    impossible: tuple[float, ...] = (0.0,),
) -> Problem:
    """Random chains. A share ``impossible`` of the transitions is -inf, but none within slot 0."""
    batch = draw(st.integers(1, 3))
    length = draw(st.integers(1, max_length))
    slots = draw(st.integers(1, max_slots))
    scale = draw(st.sampled_from(scales))
    share = draw(st.sampled_from(impossible))
    lengths = draw(st.lists(st.integers(1, length), min_size=batch, max_size=batch))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    options: dict[str, Any] = {"generator": noise, "dtype": torch.float64}
    emissions = scale * torch.randn(batch, length, slots, **options)
    shape = (batch, length - 1, slots, slots)
    transitions = scale * torch.randn(shape, **options)
    closed = torch.rand(shape, **options) < share
    closed[..., 0, 0] = False
    mask = torch.arange(length) < torch.tensor(lengths).unsqueeze(1)
    return Problem(emissions, transitions.masked_fill(closed, -math.inf), mask)


def all_paths(slots: int, length: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(slots), repeat=length))


def all_scores(emissions: Tensor, transitions: Tensor, length: int) -> Tensor:
    """Scores (P,) of :func:`all_paths`, one sentence: (T, K) and (T-1, K, K)."""
    e, t = emissions.cpu(), transitions.cpu()
    # (P, n)
    paths = torch.tensor(all_paths(e.shape[1], length))
    total = torch.zeros(len(paths), dtype=e.dtype)
    for i in range(length):
        total = total + e[i, paths[:, i]]
        if i > 0:
            total = total + t[i - 1, paths[:, i - 1], paths[:, i]]
    return total


def sentences(problem: Problem) -> list[tuple[int, int, list[tuple[int, ...]], Tensor]]:
    """For each sentence its row, length, all paths and all scores."""
    rows = []
    for row, length in enumerate(problem.lengths):
        scores = all_scores(problem.emissions[row], problem.transitions[row], length)
        rows.append((row, length, all_paths(problem.emissions.shape[2], length), scores))
    return rows

"""Small random graphs, and the enumeration of all their paths."""

import itertools
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor


@dataclass
class Problem:
    """The arguments of `dag.likelihood`, in float64."""

    emissions: Tensor
    transitions: Tensor
    last: Tensor
    lengths: Tensor

    def arguments(self, device: torch.device | str = "cpu") -> list[Tensor]:
        return [x.to(device) for x in vars(self).values()]


@st.composite
def problems(draw: st.DrawFn, most: int = 7) -> Problem:
    """Random graphs of 2 to `most` vertices, and targets that may be too long."""
    last = draw(st.lists(st.integers(1, most - 1), min_size=1, max_size=3))
    lengths = draw(st.lists(st.integers(1, 5), min_size=len(last), max_size=len(last)))
    scale = draw(st.sampled_from([1.0, 30.0]))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    size = max(last) + 1 + draw(st.integers(0, 1))  # more padding
    shape = (len(last), size, size)
    scores = scale * torch.randn(shape, generator=noise, dtype=torch.float64)
    ends, steps = torch.tensor(last), torch.arange(size)
    allowed = (steps > steps[:, None]) & (steps <= ends[:, None, None])
    transitions = scores.masked_fill(~allowed, -1e300).log_softmax(dim=2)
    emissions = -scale * torch.rand(*shape[:2], max(lengths), generator=noise, dtype=torch.float64)
    return Problem(
        emissions, transitions.masked_fill(~allowed, -torch.inf), ends, torch.tensor(lengths)
    )


def all_paths(last: int, length: int) -> list[tuple[int, ...]]:
    """All paths of `length` vertices after the start."""
    between = itertools.combinations(range(1, last), length - 1)
    return [(*vertices, last) for vertices in between]


def move_score(transitions: Tensor, path: tuple[int, ...]) -> Tensor:
    """The sum of the moves of a path, transitions (L,L)."""
    pairs = itertools.pairwise((0, *path))
    return torch.stack([transitions[pair] for pair in pairs]).sum()


def score(emissions: Tensor, transitions: Tensor, path: tuple[int, ...]) -> Tensor:
    """Moves and tokens of a path, (L,T) and (L,L)."""
    emitted = torch.stack([emissions[vertex, i] for i, vertex in enumerate(path)])
    return move_score(transitions, path) + emitted.sum()

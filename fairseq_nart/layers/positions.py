"""Sinusoidal positions (arXiv 1706.03762, section 3.5), numbered as in fairseq."""

import math

import torch
from torch import Tensor, nn


def sinusoids(rows: int, dim: int) -> Tensor:
    """(rows,dim): sines in the first half, cosines in the second; an odd last column is 0."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
    angles = torch.arange(rows).unsqueeze(1) * frequencies
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(table, (0, dim - 2 * half))


class SinusoidalPositions(nn.Module):
    """Positions of real tokens, counted from `first`, with padding on either side.

    fairseq counts from its padding index + 1, and so do teachers: `first` must be that number for
    an encoder that starts from a teacher's. The table grows if a longer sequence comes.
    """

    table: Tensor

    def __init__(self, dim: int, first: int, length: int = 1024) -> None:
        super().__init__()
        self.dim = dim
        self.first = first
        self.register_buffer("table", sinusoids(first + length, dim), persistent=False)

    def _reach(self, length: int) -> None:
        if self.first + length > len(self.table):
            with torch.inference_mode(False):  # training may read it after validation
                self.table = sinusoids(self.first + 2 * length, self.dim).to(self.table)

    def forward(self, mask: Tensor) -> Tensor:
        """mask (B,S) bool, True on real tokens -> (B,S,D)."""
        self._reach(mask.size(1))
        return self.table[(mask.cumsum(dim=1) - 1).clamp_min(0) + self.first]

    def up_to(self, length: int) -> Tensor:
        """(length,D) vectors of the first `length` positions."""
        self._reach(length)
        return self.table[self.first : self.first + length]

"""Sinusoidal positions (arXiv 1706.03762, section 3.5), numbered as in fairseq."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_nart.layers import exporting


def sinusoids(rows: int, dim: int) -> Tensor:
    """(rows,dim): sines in the first half, cosines in the second; an odd last column is 0."""
    angles = torch.arange(rows).unsqueeze(1) * _frequencies(dim)
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(table, (0, dim % 2))


def _frequencies(dim: int) -> Tensor:
    half = dim // 2
    return torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))


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

    def reach(self, length: int) -> None:
        """Grows the table for sequences of `length`. In an export it must have grown before."""
        if not exporting.active() and self.first + length > len(self.table):
            with torch.inference_mode(False):  # training may read it after validation
                self.table = sinusoids(self.first + 2 * length, self.dim).to(self.table)

    def forward(self, mask: Tensor) -> Tensor:
        """mask (B,S) bool, True on real tokens -> (B,S,D)."""
        self.reach(mask.size(1))
        return self._rows(mask)[(mask.long().cumsum(dim=1) - 1).clamp_min(0) + self.first]

    def up_to(self, x: Tensor) -> Tensor:
        """x (B,T,...) -> (T,D) vectors of the first T positions."""
        length = x.size(1)
        self.reach(length)
        return self._rows(x)[self.first : self.first + length]

    def _rows(self, x: Tensor) -> Tensor:
        if exporting.active():
            table: Tensor = _TableInGraph.apply(x, len(self.table), self.dim)  # type: ignore[no-untyped-call]
            return table
        return self.table


class _TableInGraph(torch.autograd.Function):
    """The table as a few nodes that ONNX Runtime computes when it loads the graph: stored, it takes
    a megabyte. `x` is any tensor of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: int, dim: int) -> Tensor:
        return sinusoids(rows, dim)

    @staticmethod
    def symbolic(g: Any, x: Any, rows: int, dim: int) -> Any:
        # torch multiplies constants when it exports, but does not expand them.
        shape = g.op("Constant", value_t=torch.tensor([rows, dim // 2]))
        factors = torch.arange(float(rows))[:, None], _frequencies(dim)[None]
        expanded = (g.op("Expand", g.op("Constant", value_t=x), shape) for x in factors)
        angles = g.op("Mul", *expanded)
        parts = [g.op("Sin", angles), g.op("Cos", angles)]
        if dim % 2:
            parts.append(g.op("Constant", value_t=torch.zeros(rows, 1)))
        table = g.op("Concat", *parts, axis_i=1)
        table.setType(x.type().with_dtype(torch.float).with_sizes([rows, dim]))
        return table

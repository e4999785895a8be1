"""Compresses a target to fewer positions, and expands latents to positions of the target.

Both sides halve or double the length at each step, after residual convolutions of kernel 3. They
are products over neighbouring positions. As in the released code of Roy et al. (arXiv 1805.11063),
neither side attends to the source: the decoder does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers.dropout import dropout
from fairseq_nart.layers.splitting import StateSplitting

CONVOLUTIONS = 3
"""Convolutions before each step."""


class Convolutions(nn.Module):
    """Residual convolutions over a position and its two neighbours."""

    def __init__(self, dim: int, p: float) -> None:
        """p: dropout."""
        super().__init__()
        self.p = p
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(CONVOLUTIONS))
        self.layers = nn.ModuleList(nn.Linear(3 * dim, dim) for _ in range(CONVOLUTIONS))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B,T,D), mask (B,T) -> (B,T,D); no real position depends on others than real ones."""
        for norm, layer in zip(self.norms, self.layers, strict=True):
            y = F.relu(norm(x)) * mask[..., None]
            before, after = F.pad(y, (0, 0, 1, 0))[:, :-1], F.pad(y, (0, 0, 0, 1))[:, 1:]
            x = x + dropout(layer(torch.cat([before, y, after], dim=2)), self.p, self.training)
        return x


class Compressor(nn.Module):
    """T positions -> T / 2^steps latents."""

    def __init__(self, dim: int, steps: int, p: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(Convolutions(dim, p) for _ in range(steps))
        self.merges = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(steps))
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B,T,D), mask (B,M) of the latents, T = 2^steps M -> (B,M,D)."""
        for convolutions, merge in zip(self.convolutions, self.merges, strict=True):
            x = convolutions(x, repeated(mask, x.size(1) // mask.size(1)))
            x = merge(x.reshape(len(x), -1, 2 * x.size(2)))
        vectors: Tensor = self.layer_norm(x)
        return vectors


class Decompressor(nn.Module):
    """M latents -> 2^steps M positions."""

    def __init__(self, dim: int, steps: int, p: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(Convolutions(dim, p) for _ in range(steps))
        self.splits = nn.ModuleList(StateSplitting(dim, 2) for _ in range(steps))
        self.layer_norm = nn.LayerNorm(dim)  # otherwise latents are small beside positions

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B,M,D), mask (B,M) -> (B,T,D)."""
        for convolutions, split in zip(self.convolutions, self.splits, strict=True):
            x, mask = split(convolutions(x, mask), mask)
        vectors: Tensor = self.layer_norm(x)
        return vectors


def repeated(mask: Tensor, times: int) -> Tensor:
    """mask (B,M) of latents -> (B,times M) of their positions."""
    return mask[:, :, None].expand(-1, -1, times).flatten(1)

"""Chooses which positions of a target are masked."""

import torch
from torch import Tensor


def lowest(keys: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """keys (B,T), mask (B,T), count (B,) -> (B,T) bool, True on the `count` lowest keys in mask.

    Ties go to the left.
    """
    order = keys.masked_fill(~mask, float("inf")).argsort(dim=1, stable=True)
    rank = order.argsort(dim=1)
    return mask & (rank < count[:, None])


def random_positions(mask: Tensor, seed: int | None = None) -> Tensor:
    """mask (B,T) -> (B,T) bool: n random positions of each row, n uniform in 1..its length.

    With `seed`, every call returns the same positions.
    """
    generator = None if seed is None else torch.Generator(mask.device).manual_seed(seed)
    lengths = mask.sum(dim=1)
    share = torch.rand(lengths.shape, device=mask.device, generator=generator)
    keys = torch.rand(mask.shape, device=mask.device, generator=generator)
    return lowest(keys, mask, (share * lengths).long() + 1)

"""Choosing the positions of a target that are hidden from a decoder."""

import torch
from torch import Tensor


def lowest(keys: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """keys (B,T), mask (B,T), count (B,) -> (B,T) bool, True where mask's `count` lowest keys are.

    Of equal keys the left one counts as lower.
    """
    order = keys.masked_fill(~mask, float("inf")).argsort(dim=1, stable=True)
    rank = order.argsort(dim=1)
    return mask & (rank < count[:, None])


def random_positions(mask: Tensor, seed: int | None = None) -> Tensor:
    """mask (B,T) -> (B,T) bool: n positions of each row, n uniform in 1..its length.

    With `seed` the same at each call.
    """
    source = None if seed is None else torch.Generator(mask.device).manual_seed(seed)
    lengths = mask.sum(dim=1)
    drawn = torch.rand(lengths.shape, device=mask.device, generator=source)
    keys = torch.rand(mask.shape, device=mask.device, generator=source)
    return lowest(keys, mask, (drawn * lengths).long() + 1)

"""Dropout that does not cost more than the layers on a CPU."""

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """As `torch.nn.functional.dropout`; on a CPU with p rounded to a multiple of 2^-16.

    torch draws one Bernoulli variable per element there, which took a sixth of a training step.
    One 64-bit random number holds four 16-bit ones, each compared with p: five times faster.
    """
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    numbers = words.view(torch.int16)[: x.numel()].view(x.shape)
    keep = numbers >= round(p * 2**16) - 2**15
    return x * keep.to(x.dtype).mul_(1 / (1 - p))

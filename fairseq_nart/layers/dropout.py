"""Fast dropout on a CPU."""

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Like `torch.nn.functional.dropout`, but on a CPU p is rounded to a multiple of 2^-16.

    torch samples one Bernoulli variable per element, which took a sixth of a training step on a
    CPU. Here one 64-bit random number gives four 16-bit ones to compare with p: five times faster.
    """
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu" or p == 1.0:
        return F.dropout(x, p)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    numbers = words.view(torch.int16)[: x.numel()].view(x.shape)
    keep = numbers >= round(p * 2**16) - 2**15
    # The scale is applied last: in bf16, a scaled mask would be rounded, with a systematic error.
    return (x * keep.to(x.dtype)).mul_(1 / (1 - p))

"""Consistency of two passes with different dropout (CR-CTC, arXiv 2410.05101)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def consistency(logits: Tensor, blank: Tensor, mask: Tensor) -> Tensor:
    """Half the sum of KL(q || p) + KL(p || q) over the frames in `mask`, in nats. The gradient
    flows into the second distribution only.

    logits (2B,F,V), blank (2B,F), mask (2B,F) -> (). A frame has the distribution p in one pass, in
    the first half of the batch, and q in the other, in the second half.
    """
    result: Tensor = _Consistency.apply(logits, blank, mask)  # type: ignore[no-untyped-call]
    return result


class _Consistency(torch.autograd.Function):
    """Computes the gradient together with the value, sentence by sentence: no (B,F,V) probabilities
    are stored."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, blank: Tensor, mask: Tensor) -> Tensor:
        wide = torch.promote_types(logits.dtype, torch.float32)
        total = logits.new_zeros((), dtype=wide)
        grads = torch.empty_like(logits), torch.empty_like(blank)
        half = len(logits) // 2
        for one, other in zip(range(half), range(half, 2 * half), strict=True):
            p, q = (
                torch.cat([logits[i], blank[i, :, None]], dim=1).to(wide).log_softmax(dim=1)
                for i in (one, other)
            )
            inside = mask[one, :, None]
            gap = (p.exp() - q.exp()).mul_(0.5).masked_fill_(~inside, 0.0)
            total += (gap * (p - q)).sum()
            for i, sign in ((one, 1), (other, -1)):
                grads[0][i] = sign * gap[:, :-1]
                grads[1][i] = sign * gap[:, -1]
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        logits, blank = ctx.saved_tensors
        return logits.mul_(grad), blank.mul_(grad), None

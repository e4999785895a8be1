"""Word-level losses."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PASS_ELEMENTS = {"cpu": 2**20, "accelerator": 2**27}
"""Logits per pass: few enough to stay in a CPU's cache, or many enough to keep a GPU busy."""


def token_cross_entropy(
    emissions: Tensor,
    target: Tensor,
    mask: Tensor,
    label_smoothing: float = 0.0,
    overwrite: bool = False,
) -> Tensor:
    """-sum log softmax(emissions)[target] over real positions, in nats, at least in fp32.

    emissions (B,T,V), target (B,T), mask (B,T) bool -> (). With label smoothing e the target
    distribution is (1-e) one-hot + e uniform over the vocabulary (arXiv 1512.00567, section 7).
    With `overwrite`, the backward pass overwrites the emissions with their gradient, so the caller
    must not use them again.
    """
    none = target.new_empty(*target.shape, 0)
    loss, _ = token_cross_entropy_and_scores(
        emissions, target, mask, none, label_smoothing, overwrite
    )
    return loss


def token_cross_entropy_and_scores(
    emissions: Tensor,
    target: Tensor,
    mask: Tensor,
    ids: Tensor,
    label_smoothing: float = 0.0,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor]:
    """`token_cross_entropy` () and the emissions of some tokens: ids (B,T,K) -> (B,T,K).

    One autograd node, because two would each fill a (B,T,V) gradient, and autograd would add them.
    """
    loss, scores = _LossAndScores.apply(  # type: ignore[no-untyped-call]
        *(x.flatten(0, 1) for x in (emissions, target, mask, ids)), label_smoothing, overwrite
    )
    return loss, scores.view_as(ids)


class _LossAndScores(torch.autograd.Function):
    """Processes (N,V) logits in passes that fit in the cache; stores nothing else of that size.

    With torch's functions, an fp32 copy of the logits, their log-softmax, the gradients of both and
    their sum took a fifth of a training step.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        real: Tensor,
        ids: Tensor,
        smoothing: float,
        overwrite: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, target, real, ids)
        ctx.smoothing, ctx.overwrite = smoothing, overwrite
        total = logits.new_zeros((), dtype=_wide(logits))
        for x, y, mask in _passes(logits, target, real):
            log_probs = x.log_softmax(dim=1, dtype=_wide(x))
            loss = (smoothing - 1) * log_probs.gather(1, y).squeeze(1)
            if smoothing:
                loss -= smoothing * log_probs.mean(dim=1)
            total += loss.masked_fill_(~mask, 0).sum()
        return total, logits.gather(1, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_scores: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, real, ids = ctx.saved_tensors
        out = logits if ctx.overwrite else torch.empty_like(logits)
        parts = _passes(logits, target, real, ids, grad_scores, out)
        for x, y, mask, part_ids, grad_part, out_part in parts:
            grad_x = x.softmax(dim=1, dtype=_wide(x)).sub_(ctx.smoothing / x.size(1))
            grad_x.scatter_add_(1, y, grad_x.new_full((), ctx.smoothing - 1).expand(y.shape))
            grad_x.mul_(grad * mask[:, None])
            grad_x.scatter_add_(1, part_ids, grad_part.to(grad_x))
            out_part.copy_(grad_x)
        return out, None, None, None, None, None


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _passes(logits: Tensor, target: Tensor, *others: Tensor) -> Any:
    """Splits (N,V) logits, (N,1) targets and the others into PASS_ELEMENTS logits each."""
    elements = PASS_ELEMENTS["cpu" if logits.device.type == "cpu" else "accelerator"]
    rows = max(1, elements // logits.size(1))
    tensors = (logits, target[:, None], *others)
    return zip(*(torch.split(x, rows) for x in tensors), strict=True)

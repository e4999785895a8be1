"""The likelihood of a target under CTC (Graves et al. 2006), for large vocabularies.

B batch, F frames, L labels, V vocabulary without the blank, whose score is a separate tensor.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fairseq_nart.losses.tokens import PASS_ELEMENTS


def label_log_probs(logits: Tensor, blank: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of the blank and of a sentence's own labels in each frame, at least fp32.

    logits (B,F,V), blank (B,F), labels (B,L) -> (B,F,1+L). The backward pass overwrites the logits
    with their gradient, so the caller must not use them again. No (B,F,V) log-probabilities are
    stored.
    """
    ids = labels[:, None].expand(-1, logits.size(1), -1)  # (B,F,L)
    scores, log_z = _ScoresAndNorm.apply(logits, ids)  # type: ignore[no-untyped-call]
    wide = blank.to(log_z)
    log_z = torch.logaddexp(log_z, wide)
    return torch.cat([wide[..., None], scores.to(log_z)], dim=2) - log_z[..., None]


class _ScoresAndNorm(torch.autograd.Function):
    """(B,F,V) logits at ids (B,F,L), and the log-sum-exp of all logits (B,F)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        log_z = torch.cat([part.to(wide).logsumexp(dim=2) for part in _passes(logits)[0]])
        ctx.save_for_backward(logits, ids, log_z)
        return logits.gather(2, ids), log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_scores: Tensor, grad_log_z: Tensor) -> tuple[Tensor, None]:
        logits, ids, log_z = ctx.saved_tensors
        for part, z, grad, part_ids, grad_part in zip(
            *_passes(logits, log_z, grad_log_z, ids, grad_scores)
        ):
            grad_logits = (part.to(z) - z[..., None]).exp_().mul_(grad[..., None])
            grad_logits.scatter_add_(2, part_ids, grad_part.to(grad_logits))
            part.copy_(grad_logits)
        return logits, None


def _passes(logits: Tensor, *others: Tensor) -> list[tuple[Tensor, ...]]:
    """Splits (B,F,V) logits and other tensors along B: one sentence on a CPU, many on a GPU."""
    cpu = logits.device.type == "cpu"
    step = 1 if cpu else max(1, PASS_ELEMENTS["accelerator"] // logits[0].numel())
    return [torch.split(x, step) for x in (logits, *others)]


def ctc_loss(
    log_probs: Tensor, labels: Tensor, frames: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Summed -log p(labels) in nats, and the number of targets that do not fit into their frames.

    log_probs (B,F,1+L) of the blank and of each label, from `label_log_probs`; labels (B,L); frames
    and lengths (B,), the real numbers of frames and labels. A target needs one frame per label and
    one more for each pair of equal neighbours; a target that does not fit has loss 0.
    """
    # Equal labels share the column of the first one, so that CTC recognises them as equal.
    same = labels[:, :, None] == labels[:, None, :]  # (B,L,L)
    columns = 1 + same.int().argmax(dim=2)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        columns,
        frames,
        lengths,
        blank=0,
        reduction="none",
        zero_infinity=True,
    )
    inside = torch.arange(labels.size(1) - 1, device=labels.device) < lengths[:, None] - 1
    repeats = ((labels[:, 1:] == labels[:, :-1]) & inside).sum(dim=1)
    fits = frames >= lengths + repeats
    # torch assumes that its input is a complete log-softmax, so its gradient is too large by e^x.
    # Here the input is only a part of one: a term of value zero corrects the gradient.
    real = torch.arange(log_probs.size(1), device=frames.device) < frames[:, None]
    real &= fits[:, None]
    excess = log_probs.exp().sum(dim=2).masked_fill(~real, 0.0).sum()
    return losses.sum() - excess + excess.detach(), (~fits).sum()

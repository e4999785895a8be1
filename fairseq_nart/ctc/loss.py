"""The likelihood of a target under CTC (Graves et al. 2006), from a large vocabulary's logits.

B batch, F frames, L labels, V vocabulary without the blank. Blanks have a score of their own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fairseq_nart.losses.tokens import PASS_ELEMENTS


def label_log_probs(logits: Tensor, blank: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of the blank and of a sentence's own labels in each frame, at least fp32.

    logits (B,F,V), blank (B,F), labels (B,L) -> (B,F,1+L). The gradient takes the place of the
    logits: for callers who have no further use of them. Only these few of V are ever normalised.
    """
    ids = labels[:, None].expand(-1, logits.size(1), -1)  # (B,F,L)
    scores, log_z = _ScoresAndNorm.apply(logits, ids)  # type: ignore[no-untyped-call]
    wide = blank.to(log_z)
    log_z = torch.logaddexp(log_z, wide)
    return torch.cat([wide[..., None], scores.to(log_z)], dim=2) - log_z[..., None]


class _ScoresAndNorm(torch.autograd.Function):
    """(B,F,V) logits at ids (B,F,L), and the log of their summed exponentials (B,F)."""

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
        for part, z, grad, some, grad_some in zip(
            *_passes(logits, log_z, grad_log_z, ids, grad_scores)
        ):
            change = (part.to(z) - z[..., None]).exp_().mul_(grad[..., None])
            change.scatter_add_(2, some, grad_some.to(change))
            part.copy_(change)
        return logits, None


def _passes(logits: Tensor, *others: Tensor) -> list[tuple[Tensor, ...]]:
    """Views of (B,F,V) logits and of others, of a sentence on a CPU and of many on a GPU."""
    cpu = logits.device.type == "cpu"
    step = 1 if cpu else max(1, PASS_ELEMENTS["accelerator"] // logits[0].numel())
    return [torch.split(x, step) for x in (logits, *others)]


def ctc_loss(
    log_probs: Tensor, labels: Tensor, frames: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Summed -log p(labels) in nats, and how many targets do not fit into their frames.

    log_probs (B,F,1+L) of the blank and of each label, as `label_log_probs` gives them; labels
    (B,L); frames and lengths (B,), how many of F and L are real. A target needs a frame a label and
    one more for each two equal neighbours; one that does not fit counts nothing.
    """
    # Equal labels share the column of the first of them: CTC must see that they are equal.
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
    # Torch's gradient is that of logits whose softmax these would be, which is e^x too much here:
    # they are not all of a softmax. A term whose value is zero takes it away.
    real = torch.arange(log_probs.size(1), device=frames.device) < frames[:, None]
    real &= fits[:, None]
    excess = log_probs.exp().sum(dim=2).masked_fill(~real, 0.0).sum()
    return losses.sum() - excess + excess.detach(), (~fits).sum()

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
    return _label_log_probs(logits, blank, labels, repeats=False)[0]


def label_log_probs_and_repeats(
    logits: Tensor, blank: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """`label_log_probs`, and the probability (B,F-1) that two neighbouring frames have the same
    token if both have one."""
    return _label_log_probs(logits, blank, labels, repeats=True)


def _label_log_probs(
    logits: Tensor, blank: Tensor, labels: Tensor, repeats: bool
) -> tuple[Tensor, Tensor]:
    ids = labels[:, None].expand(-1, logits.size(1), -1)  # (B,F,L)
    scores, log_z, same = _ScoresAndNorm.apply(logits, ids, repeats)  # type: ignore[no-untyped-call]
    wide = blank.to(log_z)
    log_z = torch.logaddexp(log_z, wide)
    return torch.cat([wide[..., None], scores.to(log_z)], dim=2) - log_z[..., None], same


class _ScoresAndNorm(torch.autograd.Function):
    """(B,F,V) logits at ids (B,F,L), the log-sum-exp of all logits (B,F), and with `repeats` the
    products of the softmaxes of neighbouring frames (B,F-1)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, ids: Tensor, repeats: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        log_z = logits.new_empty(logits.shape[:2], dtype=wide)
        same = logits.new_zeros(len(logits), logits.size(1) - 1, dtype=wide)
        for part, z, part_same in zip(*_passes(logits, log_z, same)):
            torch.logsumexp(part.to(wide), dim=2, out=z)
            if repeats:
                probs = (part.to(wide) - z[..., None]).exp_()
                part_same.copy_((probs[:, :-1] * probs[:, 1:]).sum(dim=2))
        ctx.save_for_backward(logits, ids, log_z, same)
        ctx.repeats = repeats
        return logits.gather(2, ids), log_z, same

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_scores: Tensor, grad_log_z: Tensor, grad_same: Tensor
    ) -> tuple[Tensor, None, None]:
        logits, ids, log_z, same = ctx.saved_tensors
        for part, z, grad, part_ids, grad_part, s, grad_s in zip(
            *_passes(logits, log_z, grad_log_z, ids, grad_scores, same, grad_same)
        ):
            grad_logits = probs = (part.to(z) - z[..., None]).exp_()
            if ctx.repeats:
                grad_logits = probs * grad[..., None]
                for own, other in ((slice(-1), slice(1, None)), (slice(1, None), slice(-1))):
                    moved = probs[:, own] * (probs[:, other] - s[..., None])
                    grad_logits[:, own] += moved.mul_(grad_s[..., None])
            else:
                grad_logits.mul_(grad[..., None])
            grad_logits.scatter_add_(2, part_ids, grad_part.to(grad_logits))
            part.copy_(grad_logits)
        return logits, None, None


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

"""Speeds up the training of teachers, fairseq's own models, on a CPU."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from fairseq.criterions import FairseqCriterion
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.modules import FairseqDropout
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairseq_nart.layers.dropout import dropout
from fairseq_nart.losses.tokens import token_cross_entropy


class FastDropout(FairseqDropout):
    """fairseq's dropout with faster random numbers; torch's took an eighth of a training step."""

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """x of any shape -> x with dropout, never in place."""
        return dropout(x, self.p, self.training or self.apply_during_inference)


def use_fast_dropout(model: nn.Module) -> None:
    """Replaces fairseq's dropout everywhere in `model`."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is FairseqDropout:
                setattr(parent, name, FastDropout(child.p, child.module_name))


def plain_attention() -> contextlib.AbstractContextManager[None]:
    """Computes attention without torch's fused CPU kernel, whose backward pass takes several times
    as long for sentences of tens of tokens: a fifth of a training step."""
    return sdpa_kernel(SDPBackend.MATH)


def use_fast_loss(criterion: FairseqCriterion) -> None:
    """Makes `criterion` compute fairseq's label-smoothed loss in passes that fit in the cache.

    It keeps fairseq's class, because a checkpoint must hold its name for training to be resumed.
    """
    if type(criterion) is LabelSmoothedCrossEntropyCriterion and not criterion.ignore_prefix_size:
        plain = criterion.compute_loss
        criterion.compute_loss = functools.partial(_smoothed_loss, criterion, plain)


def _smoothed_loss(
    criterion: LabelSmoothedCrossEntropyCriterion,
    plain: Callable[..., tuple[Tensor, Tensor]],
    model: Any,
    net_output: Any,
    sample: dict[str, Any],
    reduce: bool = True,
) -> tuple[Tensor, Tensor]:
    """fairseq's loss with and without smoothing; calls `plain` where this code does not apply."""
    logits = net_output[0]  # (B,T,V)
    decoder = getattr(getattr(model, "module", model), "decoder", None)
    adaptive = getattr(decoder, "adaptive_softmax", None) is not None
    if adaptive or not reduce or logits.device.type != "cpu":
        return plain(model, net_output, sample, reduce=reduce)
    target = model.get_targets(sample, net_output)
    mask = target.ne(criterion.padding_idx)
    # fairseq spreads epsilon over all tokens except the target, our loss over all tokens.
    smoothing = criterion.eps * logits.size(2) / (logits.size(2) - 1)
    nll = token_cross_entropy(logits.detach(), target, mask)
    return token_cross_entropy(logits, target, mask, smoothing, overwrite=True), nll

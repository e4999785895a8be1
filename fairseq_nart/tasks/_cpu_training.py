"""Spares teachers, fairseq's own models, two kernels of torch that are slow when a CPU trains."""

import contextlib

from fairseq.modules import FairseqDropout
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairseq_nart.layers.dropout import dropout


class FastDropout(FairseqDropout):
    """fairseq's dropout with our random numbers, which took an eighth of a training step."""

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """`inplace` is only ever permission."""
        return dropout(x, self.p, self.training or self.apply_during_inference)


def use_fast_dropout(model: nn.Module) -> None:
    """Replaces fairseq's dropout wherever `model` has it."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is FairseqDropout:
                setattr(parent, name, FastDropout(child.p, child.module_name))


def plain_attention() -> contextlib.AbstractContextManager[None]:
    """Attention by plain products: on sentences of tens of tokens the backward pass of torch's
    fused CPU kernel takes several times as long, a fifth of a training step.
    """
    return sdpa_kernel(SDPBackend.MATH)

"""Prepares a trained model for fast decoding on a CPU."""

import torch
from fairseq.modules import MultiheadAttention as FairseqAttention
from torch import nn

from fairseq_nart.layers.attention import MultiheadAttention
from fairseq_nart.layers.linear import PackedLinear


def pack(model: nn.Module) -> None:
    """Replaces the linear layers of a float32 model on a CPU by faster ones.

    Outputs stay the same, and a model that cannot be packed is left unchanged.
    """
    weight = next(model.parameters())
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not fits or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    packed: dict[nn.Module, nn.Module] = {}  # two decoders may share their output layer
    for parent in list(model.modules()):
        children = dict(parent.named_children())
        if isinstance(parent, MultiheadAttention):
            parent.packed = True
            children = {"out_proj": parent.out_proj}
        elif isinstance(parent, FairseqAttention):
            # Otherwise fairseq bypasses the layers and passes their weights to torch.
            parent._set_skip_embed_dim_check()
        for name, child in children.items():
            # Skip layers whose weight a hook computes at each call, as ConvS2S's normalised ones.
            if type(child) is nn.Linear and not child._forward_pre_hooks:
                if child not in packed:
                    packed[child] = PackedLinear(child.weight, child.bias)
                setattr(parent, name, packed[child])

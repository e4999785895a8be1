"""Prepares a trained model for fast decoding on a CPU."""

import torch
from fairseq.modules import MultiheadAttention as FairseqAttention
from torch import nn

from fairseq_nart.errors import UserError
from fairseq_nart.layers.attention import MultiheadAttention
from fairseq_nart.layers.linear import Int8Linear, LinearForm, PackedLinear, WeightCache


def pack(model: nn.Module, int8: bool) -> None:
    """Replaces the linear layers of a float32 model on a CPU by faster ones.

    With `int8` they are quantized; UserError if that is impossible. Otherwise outputs stay the
    same, and a model that cannot be packed is left unchanged.
    """
    weight = next(model.parameters())
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32
    if int8:
        if not fits:
            raise UserError(
                f"--int8 is for float32 on a CPU, not {weight.dtype} on {weight.device.type}: type "
                "--cpu, leave --fp16 out, or leave --int8 out"
            )
        if not hasattr(torch, "quantize_per_channel"):
            raise UserError(f"torch {torch.__version__} does not support int8: leave --int8 out")
    elif not fits or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    form: LinearForm = Int8Linear if int8 else PackedLinear
    packed: dict[nn.Module, nn.Module] = {}  # two decoders may share their output layer
    for parent in list(model.modules()):
        children = dict(parent.named_children())
        if isinstance(parent, MultiheadAttention):
            parent.linear, parent._cache = form, WeightCache()
            children = {"out_proj": parent.out_proj}
        elif isinstance(parent, FairseqAttention):
            # Otherwise fairseq bypasses the layers and passes their weights to torch.
            parent._set_skip_embed_dim_check()
        for name, child in children.items():
            # Skip layers whose weight a hook computes at each call, as ConvS2S's normalised ones.
            if (
                type(child) in (nn.Linear, PackedLinear, Int8Linear)
                and not child._forward_pre_hooks
            ):
                if child not in packed:
                    packed[child] = form(child.weight, child.bias)
                setattr(parent, name, packed[child])

"""Prepares a model that is no longer trained for decoding on a CPU."""

import torch
from fairseq.modules import MultiheadAttention as FairseqAttention
from torch import nn

from fairseq_nart.layers.attention import MultiheadAttention
from fairseq_nart.layers.linear import Int8Linear, LinearForm, PackedLinear, WeightCache


def pack(model: nn.Module, int8: bool) -> None:
    """Replaces every linear layer of a float32 model on a CPU by one that is faster.

    With `int8` by one that rounds; ValueError where that is impossible. Without it the outputs stay
    the same, and what cannot be packed is left as it is.
    """
    weight = next(model.parameters())
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32
    if int8:
        if not fits:
            raise ValueError(
                f"--int8 is for float32 on a CPU, not {weight.dtype} on {weight.device.type}: type "
                "--cpu, leave --fp16 out, or leave --int8 out"
            )
        if not hasattr(torch, "quantize_per_channel"):
            raise ValueError(f"torch {torch.__version__} has no such integers: leave --int8 out")
    elif not fits or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    form: LinearForm = Int8Linear if int8 else PackedLinear
    for parent in list(model.modules()):
        children = dict(parent.named_children())
        if isinstance(parent, MultiheadAttention):
            parent.linear, parent._cache = form, WeightCache()
            children = {"out_proj": parent.out_proj}
        elif isinstance(parent, FairseqAttention):
            # Else it hands the weights themselves to torch, scoring whole sentences.
            parent._set_skip_embed_dim_check()
        for name, child in children.items():
            # Not where a hook computes the weight at each call: ConvS2S's weight normalisation.
            if (
                type(child) in (nn.Linear, PackedLinear, Int8Linear)
                and not child._forward_pre_hooks
            ):
                setattr(parent, name, form(child.weight, child.bias))

"""Linear layers in 8-bit integers, for decoding on a CPU."""

import warnings

import torch
from torch import Tensor, nn

# The overload, because torch takes ten microseconds a call to find it.
_product = torch.ops.quantized.linear_dynamic.default


class Int8Linear(nn.Module):
    """x W^T + b: W rounded once, a scale an output; x at each call, one scale for all of it.

    `weight` and `bias` stay, for whoever reads them: embeddings that are tied to them.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        weight = linear.weight.detach()
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # To be removed one day (torch issue 184982), without a successor that is as fast yet.
            warnings.filterwarnings("ignore", message=".*are deprecated and will be removed")
            whole = torch.quantize_per_channel(weight, scales, zeros, axis=0, dtype=torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(whole, linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        # Seven bits for x: processors without VNNI instructions would overflow with eight.
        out: Tensor = _product(x, self.packed, reduce_range=True)
        return out


def use_int8(model: nn.Module) -> None:
    """Replaces every linear layer of `model`; ValueError where it is not float32 on a CPU.

    Where fairseq's attention reads the weights themselves, scoring whole sentences, it stays exact.
    """
    weight = next(model.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        raise ValueError(
            f"--int8 is for float32 on a CPU, not {weight.dtype} on {weight.device.type}: type "
            "--cpu, leave --fp16 out, or leave --int8 out"
        )
    if not hasattr(torch, "quantize_per_channel"):
        raise ValueError(f"torch {torch.__version__} has no such integers: leave --int8 out")
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, Int8Linear(child))

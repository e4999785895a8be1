"""Linear layers in the forms in which a CPU decodes fastest: packed in float32, or in integers."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LinearForm = Callable[[Tensor, Tensor | None], nn.Module]
"""weight (out,in) and bias (out,) -> a layer."""


def decodes_on_cpu(x: Tensor) -> bool:
    """Whether packed weights are for this input: float32 on a CPU, and no gradient asked for."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()


class PackedLinear(nn.Module):
    """x W^T + b with W in the order in which oneDNN's kernels read it.

    A plain layer is put in order at each call, which takes as long again for a sentence's few rows
    and three times as long for an output layer. `weight` and `bias` stay, for whoever reads them:
    embeddings that are tied to them, and inputs on another device.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        # The overload, because torch takes ten microseconds a call to find it.
        self.product = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not decodes_on_cpu(x):
            return F.linear(x, self.weight, self.bias)
        out: Tensor = self.product(x, self.packed, self.bias, "none", [], "")
        return out


class Int8Linear(nn.Module):
    """x W^T + b: W rounded once, a scale an output; x at each call, one scale for all of it."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        weight = weight.detach()
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # To be removed one day (torch issue 184982), without a successor that is as fast yet.
            warnings.filterwarnings("ignore", message=".*are deprecated and will be removed")
            whole = torch.quantize_per_channel(weight, scales, zeros, axis=0, dtype=torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(whole, bias)
        self.product = torch.ops.quantized.linear_dynamic.default

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        # Seven bits for x: processors without VNNI instructions would overflow with eight.
        out: Tensor = self.product(x, self.packed, reduce_range=True)
        return out

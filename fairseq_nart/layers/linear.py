"""Linear layers for fast decoding on a CPU: with packed float32 weights, or with int8 weights."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers import exporting

LinearForm = Callable[[Tensor, Tensor | None], nn.Module]
"""weight (out,in) and bias (out,) -> a layer."""


def decodes_on_cpu(x: Tensor) -> bool:
    """Whether packed weights can be used: x is float32 on a CPU, without gradients or an export."""
    fits = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()
    return fits and not exporting.active()


class WeightCache:
    """Caches values computed from weights until the weights change. A copy starts empty."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[list[int], Any]] = {}

    def __reduce__(self) -> tuple[type["WeightCache"], tuple[()]]:
        return WeightCache, ()  # packed weights can be neither copied nor pickled

    def get(
        self,
        name: str,
        weights: Sequence[Tensor],
        make: Callable[[], Any],
        is_valid: Callable[[Any], bool] = lambda _: True,
    ) -> Any:
        """The cached result of `make`, called again if the weights changed or it is not valid."""
        key = [x for w in weights for x in (w.data_ptr(), 0 if w.is_inference() else w._version)]
        entry = self._entries.get(name)
        if entry is None or entry[0] != key or not is_valid(entry[1]):
            entry = self._entries[name] = key, make()
        return entry[1]


class _Packed(nn.Module):
    """x W^T + b.

    `weight` and `bias` are kept for tied embeddings, for training, and for the plain product of
    inputs that are not float32 on a CPU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self._cache = WeightCache()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not decodes_on_cpu(x):
            return F.linear(x, self.weight, self.bias)
        form = self._cache.get("form", (self.weight,), lambda: self._form(self.weight.detach()))
        return self._product(x, form)

    def _form(self, weight: Tensor) -> Any:
        raise NotImplementedError

    def _product(self, x: Tensor, form: Any) -> Tensor:
        raise NotImplementedError


# Overloads are named (`.default`), because looking them up takes torch ten microseconds per call.


WORTH_PACKING = 2**20
"""Least number of multiplications that makes up for the 15 microseconds of a packed call."""


class PackedLinear(_Packed):
    """W in the memory layout of oneDNN's kernels, used where it is faster.

    A plain layer converts W at each call. For the few rows of one sentence this takes as long as
    the product itself, and three times as long for an output layer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if x.numel() * len(self.weight) < WORTH_PACKING:
            return F.linear(x, self.weight, self.bias)
        return super().forward(x)

    def _form(self, weight: Tensor) -> Any:
        return torch.ops.mkldnn._reorder_linear_weight(weight)

    def _product(self, x: Tensor, form: Any) -> Tensor:
        product = torch.ops.mkldnn._linear_pointwise.default
        out: Tensor = product(x, form, self.bias, "none", [], "")
        return out


class Int8Linear(_Packed):
    """int8 product: W is quantized once, with a scale per output; x at each call, with one."""

    def _form(self, weight: Tensor) -> Any:
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # torch will remove this (issue 184982), but has no replacement that is as fast.
            warnings.filterwarnings("ignore", message=".*are deprecated and will be removed")
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(quantized, self.bias)

    def _product(self, x: Tensor, form: Any) -> Tensor:
        # Seven bits for x: with eight, processors without VNNI instructions would overflow.
        out: Tensor = torch.ops.quantized.linear_dynamic.default(x, form, reduce_range=True)
        return out

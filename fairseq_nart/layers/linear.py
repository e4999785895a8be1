"""Linear layers in the forms in which a CPU decodes fastest: packed in float32, or in integers."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LinearForm = Callable[[Tensor, Tensor | None], nn.Module]
"""weight (out,in) and bias (out,) -> a layer."""


def decodes_on_cpu(x: Tensor) -> bool:
    """Whether packed weights are for this input: float32 on a CPU, and no gradient asked for."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()


class WeightCache:
    """Keeps what is made of weights until they change. A copy starts empty."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[list[int], Any]] = {}

    def __reduce__(self) -> tuple[type["WeightCache"], tuple[()]]:
        return WeightCache, ()  # packed weights can be neither copied nor pickled

    def get(
        self,
        name: str,
        weights: Sequence[Tensor],
        make: Callable[[], Any],
        still_good: Callable[[Any], bool] = lambda _: True,
    ) -> Any:
        """What `make` returned for these weights, made anew where that is no longer good."""
        now = [x for w in weights for x in (w.data_ptr(), 0 if w.is_inference() else w._version)]
        before = self._found.get(name)
        if before is None or before[0] != now or not still_good(before[1]):
            before = self._found[name] = now, make()
        return before[1]


class _Packed(nn.Module):
    """x W^T + b.

    `weight` and `bias` stay, for whoever reads them: embeddings that are tied to them, trainings,
    and inputs that are not float32 on a CPU, for which the plain product is computed.
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


# Overloads are named (`.default`), because torch takes ten microseconds a call to find them.


WORTH_PACKING = 2**20
"""Multiplications from which on a packed layer is faster: its call costs 15 microseconds more."""


class PackedLinear(_Packed):
    """W in the order in which oneDNN's kernels read it, where that pays.

    A plain layer is put in order at each call, which takes as long again for a sentence's few rows
    and three times as long for an output layer.
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
    """W rounded once, a scale an output; x at each call, one scale for all of it."""

    def _form(self, weight: Tensor) -> Any:
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # To be removed one day (torch issue 184982), without a successor that is as fast yet.
            warnings.filterwarnings("ignore", message=".*are deprecated and will be removed")
            whole = torch.quantize_per_channel(weight, scales, zeros, axis=0, dtype=torch.qint8)
        return torch.ops.quantized.linear_prepack(whole, self.bias)

    def _product(self, x: Tensor, form: Any) -> Tensor:
        # Seven bits for x: processors without VNNI instructions would overflow with eight.
        out: Tensor = torch.ops.quantized.linear_dynamic.default(x, form, reduce_range=True)
        return out

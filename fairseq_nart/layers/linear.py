"""Linear layers for fast decoding on a CPU."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers import exporting


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


WORTH_PACKING = 2**20
"""Least number of multiplications that makes up for the 15 microseconds of a packed call."""


class PackedLinear(nn.Module):
    """x W^T + b, with W in the memory layout of oneDNN's kernels where that is faster.

    A plain layer converts W at each call. For the few rows of one sentence this takes as long as
    the product itself, and three times as long for an output layer. `weight` and `bias` are kept
    for tied embeddings, for training, and for the plain product of inputs that are small or not
    float32 on a CPU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self._cache = WeightCache()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if x.numel() * len(self.weight) < WORTH_PACKING or not decodes_on_cpu(x):
            return F.linear(x, self.weight, self.bias)
        return self._product(x, self._cache.get("packed", (self.weight,), self._pack))

    def _pack(self) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
        return packed

    def _product(self, x: Tensor, packed: Tensor) -> Tensor:
        # Named (`.default`), because looking an overload up takes torch ten microseconds per call.
        product = torch.ops.mkldnn._linear_pointwise.default
        out: Tensor = product(x, packed, self.bias, "none", [], "")
        return out

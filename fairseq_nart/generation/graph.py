"""The parts of a system that are exported as ONNX graphs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Graph:
    """A function of tensors. It runs outside Python, so it must not decide on their values."""

    name: str
    compute: Callable[..., dict[str, Tensor]]
    """Named tensors -> named tensors; see `sizes`."""
    model: nn.Module
    """Has the weights that `compute` uses."""
    example: dict[str, Tensor]
    """Arguments to trace it with. No dimension of any size may be 1 or equal another."""
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The dimensions of a tensor that may have any size, if they are not the first two."""


def example_source() -> Tensor:
    """(2,5) source tokens; the first sentence is the shorter one. 1 is the padding of fairseq."""
    return torch.tensor([[4, 4, 2, 1, 1], [4, 4, 4, 4, 2]])


def example_targets() -> Tensor:
    """(6,7) bool: 3 targets for each of the sentences of `example_source`."""
    return torch.arange(7) < torch.tensor([[2], [7], [4], [3], [6], [1]])

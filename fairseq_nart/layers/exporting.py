"""What differs while a model is traced into an ONNX graph (`fairseq_nart.export`)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_active = False


def active() -> bool:
    """Whether models compute as their graphs will: on tensors alone, whatever their values."""
    return _active


@contextlib.contextmanager
def activated() -> Iterator[None]:
    """Makes `active` True during the block. Attention then returns the right shapes only."""
    global _active
    _active = True
    try:
        yield
    finally:
        _active = False


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Multi-head attention as one operator of ONNX Runtime instead of a dozen.

    q (B,T,D), k and v (B,S,D), mask int32 (B,S) or (B,T,S), 1 where attention is allowed
    -> (B,T,D).
    """
    out: Tensor = _Attention.apply(q, k, v, mask, heads)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int) -> Tensor:
        return q.clone()  # the tracer needs only its shape

    @staticmethod
    def symbolic(g: Any, q: Any, k: Any, v: Any, mask: Any, heads: int) -> Any:
        nothing = g.op("prim::Constant")
        nothing.setType(torch._C.OptionalType.ofTensor())
        inputs = (q, k, v, nothing, mask)
        out = g.op("com.microsoft::MultiHeadAttention", *inputs, num_heads_i=heads)
        out.setType(q.type())
        return out


def reshape(x: Tensor, *sizes: int) -> Tensor:
    """x with the given sizes: 0 keeps a dimension, and one is -1.

    A traced `view` has operators that compute each size that is kept.
    """
    out: Tensor = _Reshape.apply(x, sizes)  # type: ignore[no-untyped-call]
    return out


class _Reshape(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        return x.reshape([size or x.size(i) for i, size in enumerate(sizes)])

    @staticmethod
    def symbolic(g: Any, x: Any, sizes: tuple[int, ...]) -> Any:
        out = g.op("Reshape", x, g.op("Constant", value_t=torch.tensor(sizes)))
        out.setType(x.type().with_sizes([None] * len(sizes)))
        return out


def grouped(x: Tensor, like: Tensor) -> Tensor:
    """x (BN,T,D), like (B,...) -> (B,NT,D)."""
    if not active():
        return x.view(like.size(0), -1, x.size(2))
    out: Tensor = _Grouped.apply(x, like, int(x.size(2)))  # type: ignore[no-untyped-call]
    return out


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, like: Tensor, dim: int) -> Tensor:
        return x.reshape(like.size(0), -1, dim)

    @staticmethod
    def symbolic(g: Any, x: Any, like: Any, dim: int) -> Any:
        rest = g.op("Constant", value_t=torch.tensor([-1, dim]))
        sizes = g.op("Concat", g.op("Shape", like, start_i=0, end_i=1), rest, axis_i=0)
        out = g.op("Reshape", x, sizes)
        out.setType(x.type())
        return out


CHUNK = 16
"""Emissions whose maxima are compared first; ONNX Runtime's ArgMax and TopK are slow."""


class Output(nn.Module):
    """The output layer in a graph: emissions of the vocabulary, of further rows, then -inf up to a
    multiple of `CHUNK`."""

    weight: Tensor
    bias: Tensor
    last: Tensor

    def __init__(self, weight: Tensor, forbidden: list[int], *rows: Tensor) -> None:
        """weight (V,D); the emissions of `forbidden` are -inf. rows (D,) follow the vocabulary."""
        super().__init__()
        weight = torch.cat([weight.detach(), *(row.detach()[None] for row in rows)])
        padding = -len(weight) % CHUNK
        bias = weight.new_zeros(len(weight) + padding)
        bias[[*forbidden, *range(len(weight), len(bias))]] = float("-inf")
        self.register_buffer("weight", F.pad(weight, (0, 0, 0, padding)))
        self.register_buffer("bias", bias)
        self.register_buffer("last", (torch.arange(len(bias)) == len(weight) - 1).to(bias))

    def forward(self, features: Tensor, less: Tensor | None = None) -> Tensor:
        """features (B,T,D) -> (B,T,W). `less` () is taken off the emission of the last row."""
        bias = self.bias if less is None else self.bias - less * self.last
        return F.linear(features, self.weight, bias)


def largest(emissions: Tensor) -> tuple[Tensor, Tensor]:
    """emissions (B,T,W) -> the largest of each position and its index, (B,T) each.

    The first of equal ones, as `torch.max`.
    """
    chunks = emissions.view(-1, emissions.size(2) // CHUNK, CHUNK)  # (BT,C,CHUNK)
    values, chunk = chunks.amax(dim=2).max(dim=1)
    index = chunk * CHUNK + _rows(chunks, chunk).argmax(dim=1)
    shape = emissions.shape[:2]
    return values.view(shape), index.view(shape)


def most(emissions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """emissions (B,T,W) -> the `count` largest of each position and their indices, (B,T,count)
    each, in any order. They are in the `count` chunks with the largest maxima."""
    if 2 * CHUNK * count > emissions.size(2):  # most chunks would be searched
        return emissions.topk(count, dim=2, sorted=False)
    chunks = emissions.view(-1, emissions.size(2) // CHUNK, CHUNK)
    chunk = chunks.amax(dim=2).topk(count, dim=1, sorted=False).indices  # (BT,count)
    values, place = _rows(chunks, chunk).flatten(1).topk(count, dim=1, sorted=False)
    index = chunk.gather(1, place // CHUNK) * CHUNK + place % CHUNK
    shape = (*emissions.shape[:2], count)
    return values.view(shape), index.view(shape)


def _rows(chunks: Tensor, chunk: Tensor) -> Tensor:
    """chunks (BT,C,CHUNK), chunk (BT,...) -> (BT,...,CHUNK)."""
    first = torch.arange(chunk.size(0)) * chunks.size(1)
    row = chunk + first.view(-1, *[1] * (chunk.dim() - 1))
    return chunks.reshape(-1, CHUNK)[row]

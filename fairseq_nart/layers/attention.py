"""Multi-head and positional attention, batch first. Masks are True where attention is allowed."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers import exporting
from fairseq_nart.layers.dropout import dropout
from fairseq_nart.layers.linear import PackedLinear, WeightCache, decodes_on_cpu


def keys_mask(mask: Tensor) -> Tensor | None:
    """mask (B,S), True on real tokens -> (B,1,1,S), or None on a CPU if nothing is padded.

    Attention without a mask is a third faster. On a GPU the check would block the host.
    """
    if exporting.active():
        return mask.int()
    return None if mask.device.type == "cpu" and bool(mask.all()) else mask[:, None, None]


@contextlib.contextmanager
def without_cudnn(x: Tensor) -> Iterator[None]:
    """Disables cuDNN attention, torch's first choice on Hopper, during the block if x is on a GPU.

    In half precision cuDNN builds a plan for each new batch size and length, and batches of
    sentences keep bringing new ones.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    try:
        torch.backends.cuda.enable_cudnn_sdp(before and not x.is_cuda)
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention (arXiv 1706.03762) with fairseq's parameter names."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"width {dim} is not a multiple of {heads} attention heads")
        self.dim = dim
        self.heads = heads
        self.dropout = dropout
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.xavier_uniform_(projection.weight, gain=1 / math.sqrt(2))
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)
        self.packed = False
        """Set for decoding on a CPU: one layer computes all projections of the same input."""
        self._cache = WeightCache()

    def project(self, x: Tensor, names: str) -> tuple[Tensor, ...]:
        """x (B,T,D) -> (B,H,T,D/H) for each of `names`: q, k, v."""
        if not self.packed or not decodes_on_cpu(x):
            return self._project_apart(x, names)
        weights, biases = self._weights(names)
        joined = self._cache.get(
            names, weights + biases, lambda: PackedLinear(torch.cat(weights), torch.cat(biases))
        )
        return tuple(self._split(y) for y in joined(x).chunk(len(names), dim=2))

    def _project_apart(self, x: Tensor, names: str) -> tuple[Tensor, ...]:
        return tuple(self._split(getattr(self, f"{name}_proj")(x)) for name in names)

    def _weights(self, names: str) -> tuple[list[Tensor], list[Tensor]]:
        parts = [getattr(self, f"{name}_proj") for name in names]
        return [part.weight for part in parts], [part.bias for part in parts]

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def joined(self, names: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of one product for all of `names`: q, k, v."""
        weights, biases = self._weights(names)
        return torch.cat(weights), torch.cat(biases)

    def forward(self, query: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """query (B,T,D), source (B,S,D), mask broadcastable to (B,heads,T,S) -> (B,T,D).

        In an export, a `source` other than the query holds its keys and values, (B,S,2D).
        """
        if exporting.active():
            if query is not source:
                return self.over(query, source, mask)
            joined = F.linear(query, *self.joined("qkv"))
            q, k, v = torch.split(joined, self.dim, dim=2)
            return self._attend_in_graph(mask, q, k, v)
        if query is source:
            return self.attend(mask, *self.project(query, "qkv"))
        return self.attend(mask, *self.project(query, "q"), *self.project(source, "kv"))

    def over(self, query: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """query (B,T,D), memory (B,S,2D), the keys and values of a source, mask as above
        -> (B,T,D)."""
        keys, values = torch.split(memory, self.dim, dim=2)
        if exporting.active():
            return self._attend_in_graph(mask, self.q_proj(query), keys, values)
        (queries,) = self.project(query, "q")
        return self.attend(mask, queries, self._split(keys), self._split(values))

    def attend(self, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """mask as above, q (B,H,T,D/H), k and v (B,H,S,D/H) -> (B,T,D).

        q and k may have batch 1 where v has B.
        """
        if v.device.type == "cpu" and v.requires_grad:
            # The backward pass of torch's fused CPU kernel is five times slower here: it is meant
            # for long sequences, and sentences are short (16 x 16 weights).
            weights = torch.matmul(q / math.sqrt(q.size(3)), k.transpose(2, 3))  # (B|1,H,T,S)
            if mask is not None:
                weights = weights.masked_fill(~mask, float("-inf"))
            weights = weights.softmax(dim=3)
            if self.training and self.dropout:  # expanded: each sentence needs its own mask
                weights = dropout(weights.expand(len(v), -1, -1, -1), self.dropout, True)
            out = torch.matmul(weights, v)
        else:
            q, k = (x.expand(v.size(0), -1, -1, -1) for x in (q, k))
            p = self.dropout if self.training else 0.0
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected

    def _attend_in_graph(self, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """mask as in `exporting.attention`, q (B,T,D), k and v (B,S,D) -> (B,T,D)."""
        assert mask is not None
        projected: Tensor = self.out_proj(exporting.attention(q, k, v, mask, self.heads))
        return projected


class PositionalAttention(MultiheadAttention):
    """Queries and keys are positions, values the layer's input (Gu et al. 2018, arXiv 1711.02281).

    So the attention weights do not depend on the tokens, only on the sentence's length.
    """

    def forward(self, positions: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """positions (T,D), value (B,T,D), mask as in the base class -> (B,T,D)."""
        if exporting.active():
            both = F.linear(positions[None], *self.joined("qk")).expand(value.size(0), -1, -1)
            q, k = torch.split(both, self.dim, dim=2)
            return self._attend_in_graph(mask, q, k, self.v_proj(value))
        return self.attend(mask, *self._project_positions(positions), *self.project(value, "v"))

    def weights(self, positions: Tensor, mask: Tensor) -> Tensor:
        """positions (T,D), mask as in `exporting.attention` -> the attention weights (B,H,T,T), in
        an export."""
        q, k = self._project_apart(positions[None], "qk")
        scores = torch.matmul(q / math.sqrt(q.size(3)), k.transpose(2, 3))
        allowed = mask[:, None] if mask.dim() == 3 else mask[:, None, None]
        return scores.masked_fill(allowed == 0, float("-inf")).softmax(dim=3)

    def average(self, value: Tensor, weights: Tensor) -> Tensor:
        """value (B,T,D), the result of `weights` -> (B,T,D), in an export."""
        v = exporting.reshape(self.v_proj(value), 0, 0, self.heads, -1)
        out = torch.matmul(weights, v.transpose(1, 2)).transpose(1, 2)
        projected: Tensor = self.out_proj(exporting.reshape(out, 0, 0, -1))
        return projected

    def _project_positions(self, positions: Tensor) -> tuple[Tensor, ...]:
        if not self.packed or not decodes_on_cpu(positions):
            return self._project_apart(positions[None], "qk")
        length = len(positions)
        weights, biases = self._weights("qk")
        # Cached for the longest length so far.
        cached = self._cache.get(
            "positions",
            weights + biases,
            lambda: self._project_apart(positions[None], "qk"),
            lambda projected: projected[0].size(2) >= length,
        )
        return tuple(x[:, :, :length] for x in cached)

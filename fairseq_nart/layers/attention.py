"""Multi-head attention and positional attention, batch first, masks True where one may look."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers.dropout import dropout


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention (arXiv 1706.03762) under fairseq's parameter names."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"width {dim} is no multiple of the {heads} attention heads")
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

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """query (B,T,D), key and value (B,S,D), mask broadcastable to (B,heads,T,S) -> (B,T,D).

        query and key may have batch 1 where value has B: then they are projected once.
        """
        q = self._split(self.q_proj(query))  # (B,H,T,D/H)
        k = self._split(self.k_proj(key))  # (B,H,S,D/H)
        v = self._split(self.v_proj(value))
        if v.device.type == "cpu" and v.requires_grad:
            # Torch's fused attention is five times slower here in the backward pass: sentences are
            # short (16 x 16 weights), and its CPU kernel is made for long ones.
            weights = torch.matmul(q / math.sqrt(q.size(3)), k.transpose(2, 3))  # (B|1,H,T,S)
            if mask is not None:
                weights = weights.masked_fill(~mask, float("-inf"))
            out = torch.matmul(dropout(weights.softmax(dim=3), self.dropout, self.training), v)
        else:
            q, k = (x.expand(v.size(0), -1, -1, -1) for x in (q, k))
            p = self.dropout if self.training else 0.0
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected


class PositionalAttention(MultiheadAttention):
    """Queries and keys are positions alone, values the layer's input (Gu et al. 2018, 1711.02281).

    So the weights are the same for every sentence of a length; they do not depend on its tokens.
    """

    def forward(  # type: ignore[override]
        self, positions: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        """positions (T,D), value (B,T,D), mask as in the base class -> (B,T,D)."""
        return super().forward(positions[None], positions[None], value, mask)

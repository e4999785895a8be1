"""Log-probabilities of moving from a vertex to a later one (arXiv 2205.07459, section 3.2)."""

import math

import torch
from torch import Tensor, nn


class VertexTransitions(nn.Module):
    """Several heads of attention from each vertex to the later ones, mixed by a gate.

    E_uv = log sum_h g_h(u) softmax_v(q_h(u) k_h(v) / sqrt(d)), where queries, keys and gates read
    the decoder's state and the position of a vertex.
    """

    def __init__(self, dim: int, heads: int) -> None:
        """dim: width of the states, a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.widths = [dim, dim, heads]
        self.of_states = nn.Linear(dim, sum(self.widths))
        self.of_positions = nn.Linear(dim, sum(self.widths), bias=False)

    def forward(self, states: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """states (B,L,D), positions (L,D), mask (B,L), real vertices first -> (B,L,L), float32.

        Entry [b,u,v] is the log-probability of v after u: -inf unless u < v and v is real. The last
        vertex has no successor.
        """
        mixed = self.of_states(states) + self.of_positions(positions)
        query, key, gate = mixed.split(self.widths, dim=2)
        batch, length, dim = query.shape
        split = (batch, length, self.heads, dim // self.heads)
        query, key = (x.view(split).transpose(1, 2) for x in (query, key))  # (B,H,L,D/H)
        scale = math.sqrt(dim // self.heads)
        scores = query.float() @ key.float().transpose(2, 3) / scale  # (B,H,L,L)
        steps = torch.arange(length, device=mask.device)
        allowed = (steps > steps[:, None]) & mask[:, None, :]  # (B,L,L)
        # A finite number, because a row of -inf has no gradient. The result has -inf there.
        scores = scores.masked_fill(~allowed[:, None], torch.finfo(torch.float32).min)
        gates = gate.float().log_softmax(dim=2).transpose(1, 2)  # (B,H,L)
        weighted = scores.log_softmax(dim=3) + gates[..., None]
        moves: Tensor = weighted.logsumexp(dim=1)
        return moves.masked_fill(~allowed, -math.inf)

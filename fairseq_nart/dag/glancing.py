"""Glancing on a graph: tokens of the target at the vertices of its best path (arXiv 2205.07459).

B batch, L vertices, T tokens. `alignment` (B,T) is the vertex of each token of the target.
"""

import math

import torch
from torch import Tensor


def at_vertices(values: Tensor, alignment: Tensor, chosen: Tensor, vertices: int) -> Tensor:
    """values (B,T) of the chosen (B,T) tokens at their vertices, (B,L); -1 elsewhere."""
    result = values.new_full((len(values), vertices + 1), -1)
    column = torch.where(chosen, alignment, vertices)  # one more column, which is cut off
    return result.scatter_(1, column, values)[:, :-1]


def force(emissions: Tensor, alignment: Tensor, revealed: Tensor) -> Tensor:
    """emissions (B,L,T) -> the same, but a revealed token's vertex can emit no other token."""
    numbers = torch.arange(alignment.size(1), device=alignment.device)
    own = at_vertices(numbers.expand_as(alignment), alignment, revealed, emissions.size(1))
    return emissions.masked_fill((own >= 0)[..., None] & (own[..., None] != numbers), -math.inf)

"""Paths through a graph: the best move at each vertex, and the best path of each length.

B batch, L vertices, N paths, T tokens. `moves` (B,L,L) is the score of a move from one vertex to
a later one, at most 0, -inf for all others; `last` (B,) is the number of the last vertex, where
every path ends. Paths are the vertices after the start, and `last` at padding.
"""

import math

import torch
from torch import Tensor


def best_moves(moves: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """The path that takes the best move at each vertex: vertices (B,T) and their number (B,).

    With scores E_uv it is greedy search, with E_uv + max_w log P_v(w) lookahead (arXiv 2205.07459,
    section 3.4).
    """
    following, end = moves.argmax(dim=2), last[:, None]
    vertex, path = torch.zeros_like(end), []
    for _ in range(moves.size(1) - 1):
        vertex = torch.where(vertex == end, end, following.gather(1, vertex))
        path.append(vertex)
        if vertex.device.type == "cpu" and torch.equal(vertex, end):
            break
    vertices = torch.cat(path, dim=1)
    return vertices, 1 + (vertices != end).sum(dim=1)


def best_of_lengths(
    moves: Tensor, last: Tensor, count: int, penalty: float, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best path of each length up to `longest`, and of these the `count` with the largest
    score / length^penalty: vertices (B,N,T), their number (B,N) and whether there is such a path
    (B,N), best first.

    With scores E_uv + max_w log P_v(w) it is joint Viterbi decoding (arXiv 2210.05193), exact for
    each length.
    """
    start = torch.full_like(moves[:, 0], -math.inf)
    start[:, 0] = 0.0
    states, end = [start], last[:, None]
    for _ in range(min(longest, moves.size(1) - 1)):
        states.append((states[-1][..., None] + moves).amax(dim=1))
    lengths = torch.arange(1, len(states), device=moves.device)
    scores = torch.cat([state.gather(1, end) for state in states[1:]], dim=1) / lengths**penalty
    values, order = scores.sort(dim=1, descending=True, stable=True)
    values, numbers = values[:, :count], 1 + order[:, :count]  # (B,N)
    arrivals, vertex, path = moves.transpose(1, 2), end.expand_as(numbers), []
    for step in range(len(states) - 1, 0, -1):
        path.append(vertex)
        into = arrivals.gather(1, vertex[..., None].expand(-1, -1, moves.size(1)))  # (B,N,L)
        before = (states[step - 1][:, None] + into).argmax(dim=2)
        # A path leaves the end at its own last step.
        vertex = torch.where(step <= numbers, before, vertex)
    return torch.stack(path[::-1], dim=2), numbers, values > -math.inf

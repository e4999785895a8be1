"""The likelihood of a target under a graph: the sum over all paths (arXiv 2205.07459, section 3.3).

B batch, L vertices, T tokens. Every function takes

* `emissions` (B,L,T): log-probability that a vertex emits a token of the target;
* `transitions` (B,L,L): entry [b,u,v] of a move from u to v, -inf unless u < v;
* `last` (B,): the number of the last vertex, where every path ends;
* `lengths` (B,): the real number of tokens, at least 1.

A path visits `lengths` vertices after the start, so a target is too long if `lengths` > `last`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def dag_loss(
    emissions: Tensor, transitions: Tensor, last: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Summed -log p(target) in nats, and the number of targets that are too long; their loss is 0.

    The backward pass computes marginals, in memory of the same size as the arguments.
    """
    fits = lengths <= last
    log_z: Tensor = _LogLikelihood.apply(emissions, transitions, last, lengths)  # type: ignore[no-untyped-call]
    return -log_z.masked_fill(~fits, 0.0).sum(), (~fits).sum()


def best_alignment(emissions: Tensor, transitions: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
    """The vertices (B,T) of the most probable path that emits the target; 0 at padding.

    Arbitrary for a target that is too long.
    """
    state, pointers = _start(emissions), []
    for step in range(emissions.size(2)):
        reached, pointer = (state[..., None] + transitions).max(dim=1)
        state = reached + emissions[:, :, step]
        pointers.append(pointer)
    vertex, path = last[:, None], []
    for step, pointer in reversed(list(enumerate(pointers))):
        real = (step < lengths)[:, None]
        path.append(vertex.masked_fill(~real, 0))
        vertex = torch.where(real, pointer.gather(1, vertex), vertex)
    return torch.cat(path[::-1], dim=1)


class _LogLikelihood(torch.autograd.Function):
    """log p(target) (B,), -inf if it is too long. Its gradient is the marginals of the paths."""

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, transitions: Tensor, last: Tensor, lengths: Tensor
    ) -> Tensor:
        states, room = [_start(emissions)], torch.empty_like(transitions)
        for step in range(emissions.size(2)):
            reached = _arrive(states[-1], transitions, room) + emissions[:, :, step]
            states.append(torch.where((step < lengths)[:, None], reached, states[-1]))
        log_z = states[-1].gather(1, last[:, None]).squeeze(1)
        ctx.save_for_backward(emissions, transitions, last, lengths, torch.stack(states), log_z)
        return log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        emissions, transitions, last, lengths, states, log_z = ctx.saved_tensors
        grad_emissions = torch.empty_like(emissions)
        grad_transitions, room = torch.zeros_like(transitions), torch.empty_like(transitions)
        # Subtracting +inf makes the probabilities of a target that is too long 0.
        log_z = log_z.masked_fill(log_z == -math.inf, math.inf)[:, None]
        future = torch.full_like(states[0], -math.inf).scatter_(1, last[:, None], 0.0)  # (B,L)
        for step in reversed(range(emissions.size(2))):
            real = (step < lengths)[:, None]
            visited = torch.exp(states[step + 1] + future - log_z) * grad[:, None]
            grad_emissions[:, :, step] = visited.masked_fill(~real, 0.0)
            # p(v | u) = exp(move - before) times p(u) is the probability of the move.
            torch.add(transitions, (future + emissions[:, :, step])[:, None], out=room)
            top = room.amax(dim=2, keepdim=True).clamp_(min=torch.finfo(room.dtype).min)
            total = room.sub_(top).exp_().sum(dim=2)
            before = total.log() + top.squeeze(2)
            left = torch.exp(states[step] + before - log_z) * grad[:, None]
            share = (left / total).masked_fill_(~real | (total == 0), 0.0)
            grad_transitions.addcmul_(room, share[..., None])
            future = torch.where(real, before, future)
        return grad_emissions, grad_transitions, None, None


def _start(emissions: Tensor) -> Tensor:
    """(B,L) the state before the first token: only vertex 0 is possible."""
    start = torch.full_like(emissions[:, :, 0], -math.inf)
    start[:, 0] = 0.0
    return start


def _arrive(state: Tensor, transitions: Tensor, room: Tensor) -> Tensor:
    """Log of the summed exponential scores of all moves into each vertex, (B,L) -> (B,L).

    `room` is overwritten. Clamping a maximum of -inf avoids -inf - -inf, which is NaN.
    """
    torch.add(transitions, state[..., None], out=room)
    top = room.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(room.dtype).min)
    return room.sub_(top).exp_().sum(dim=1).log() + top.squeeze(1)

"""Exact inference in a linear chain of T positions with K slots each.

A path y takes one slot per position; its score is the sum of the emissions and transitions it
passes (https://arxiv.org/abs/1910.11555, section 3.1, no start or stop term). Every function takes

* ``emissions`` (B, T, K): score of each slot;
* ``transitions`` (B, T-1, K, K): entry [b, i, u, v] scores slot v at i+1 after slot u at i;
* ``mask`` (B, T) bool: True on real positions, which come first; at least one per sentence.

Scores may be -inf (impossible) but not +inf. Half precision is computed in float32, mixed types in
the wider one. Slots at padding are 0.

Wrong shapes, types or devices raise ValueError. On the CPU, so do a mask that is not right-padded
and a slot outside 0..K-1; on other devices these two are asynchronous assertions, because reading
the values would make the host wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Semiring = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""(state at i, move from i to i+1) -> (state at i+1, back-pointers into the state at i)."""


def log_partition(emissions: Tensor, transitions: Tensor, mask: Tensor) -> Tensor:
    """Log of the summed exponential scores of all paths, (B,); -inf if every path is impossible."""
    _check(emissions, transitions, mask)
    result: Tensor = _SumOverPaths.apply(emissions, transitions, mask, None)  # type: ignore[no-untyped-call]
    return result


def log_likelihood(emissions: Tensor, transitions: Tensor, path: Tensor, mask: Tensor) -> Tensor:
    """``score - log_partition`` of ``path`` (B, T), never above 0, (B,); -inf if impossible.

    One autograd node: the gradient, one-hot minus marginals, is written to a single buffer as
    large as the transitions, where the plain difference would fill two and add them.
    """
    _check(emissions, transitions, mask, path)
    result: Tensor = _SumOverPaths.apply(emissions, transitions, mask, path)  # type: ignore[no-untyped-call]
    return result


def score(emissions: Tensor, transitions: Tensor, path: Tensor, mask: Tensor) -> Tensor:
    """Score of ``path`` (B, T), given as slots, (B,)."""
    _check(emissions, transitions, mask, path)
    return _score(*_widen(emissions, transitions), path, mask)


def best_path(emissions: Tensor, transitions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Viterbi: the best score (B,) and its path (B, T)."""
    _check(emissions, transitions, mask)
    emissions, transitions = _widen(emissions, transitions)
    steps = _steps(_moves(emissions, transitions), mask)
    states, pointers = _sweep(emissions[:, 0], steps, _max_plus)
    # (B, 1)
    scores, last = states[-1].max(dim=1, keepdim=True)
    paths = _backtrace(pointers, last, mask, emissions.shape[2])
    return scores.squeeze(1), paths.squeeze(1)


def k_best(emissions: Tensor, transitions: Tensor, mask: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best paths, best first: scores (B, k) and paths (B, k, T).

    If fewer than ``k`` paths exist, the missing ones score -inf and their slots are arbitrary.
    Raises ValueError if ``k`` < 1.
    """
    _check_positive("k", k)
    _check(emissions, transitions, mask)
    emissions, transitions = _widen(emissions, transitions)
    # (B, k, K): one hypothesis ends in each slot of the first position
    start = torch.full_like(emissions[:, :1], -math.inf).repeat(1, k, 1)
    start[:, 0] = emissions[:, 0]
    moves = _moves(emissions, transitions).unsqueeze(2)
    states, pointers = _sweep(start, _steps(moves, mask.unsqueeze(2)), _k_max_plus)
    # (B, k)
    scores, last = states[-1].flatten(1).topk(k, dim=1)
    return scores, _backtrace(pointers, last, mask, emissions.shape[2])


@torch.no_grad()
def marginals(emissions: Tensor, transitions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of each slot (B, T, K) and each pair of neighbours (B, T-1, K, K).

    They are 0 at padding and where every path is impossible. Not differentiable.
    """
    _check(emissions, transitions, mask)
    emissions, transitions = _widen(emissions, transitions)
    states = _sum_forward(emissions, transitions, mask)
    ones = torch.ones_like(emissions[:, 0, 0])
    return _smooth(states, emissions, transitions, mask, ones)


@torch.no_grad()
def path_log_probs(emissions: Tensor, transitions: Tensor, path: Tensor, mask: Tensor) -> Tensor:
    """log p(y_i | y_{i-1}) of each slot of ``path`` (B, T), at most 0, and 0 at padding, (B, T).

    They sum to ``score - log_partition``; some are -inf if the path is impossible. Not
    differentiable.
    """
    _check(emissions, transitions, mask, path)
    emissions, transitions = _widen(emissions, transitions)
    # (B, T-1, K, K): from the last position to the first
    moves = _moves(emissions, transitions).transpose(2, 3)
    steps = reversed(list(_steps(moves, mask)))
    states, _ = _sweep(torch.zeros_like(emissions[:, 0]), steps, _log_plus)
    # (B, T, K): log of the summed exponential scores of what may follow a slot
    futures = torch.stack(states[::-1], dim=1)
    log_z = torch.logsumexp(emissions[:, 0] + futures[:, 0], dim=1)
    # (B, T) and (B, T-1)
    unary, pairwise = _along(emissions, transitions, path)
    after = futures.gather(2, path.unsqueeze(2)).squeeze(2)
    before = torch.cat([log_z.unsqueeze(1), after[:, :-1]], dim=1)
    arrive = torch.cat([unary[:, :1], unary[:, 1:] + pairwise], dim=1) + after
    # rounding alone can lift a log-probability above 0
    log_probs = (arrive - before).clamp(max=0).masked_fill(before == -math.inf, -math.inf)
    return log_probs.masked_fill(~mask, 0)


@torch.no_grad()
def sample(
    emissions: Tensor,
    transitions: Tensor,
    mask: Tensor,
    n: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``n`` independent samples (B, n, T) of paths with probability exp(score - log_partition).

    Forward filtering, backward sampling. ``generator`` makes the samples repeatable and must be on
    the scores' device. Raises ValueError if ``n`` < 1.
    """
    _check_positive("n", n)
    _check(emissions, transitions, mask)

    def draw(logits: Tensor) -> Tensor:
        # the argmax of exp(logit) / exponential noise is a sample from the softmax; noise that
        # rounds to 0 would turn a logit of -inf into NaN
        noise = torch.empty_like(logits).exponential_(generator=generator)
        noise.clamp_(min=torch.finfo(noise.dtype).tiny)
        return (logits - noise.log()).argmax(dim=-1)

    emissions, transitions = _widen(emissions, transitions)
    states = _sum_forward(emissions, transitions, mask)
    # (B, n)
    current = draw(states[:, -1:].repeat(1, n, 1))
    path = [current]
    for i in reversed(range(mask.shape[1] - 1)):
        # (B, n, K): scores of arriving in each sample's current slot
        index = current.unsqueeze(2).expand(-1, -1, states.shape[2])
        logits = states[:, i : i + 1] + transitions[:, i].transpose(1, 2).gather(1, index)
        current = torch.where(mask[:, i + 1 : i + 2], draw(logits), current)
        path.append(current)
    return torch.stack(path[::-1], dim=2).masked_fill(~mask.unsqueeze(1), 0)


class _SumOverPaths(torch.autograd.Function):
    """log Z, or score - log Z of a path, with marginals as the gradient.

    Autograd through the recursion would keep several tensors as large as the transitions. This
    keeps only the (B, T, K) states and reads the transitions again in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, transitions: Tensor, mask: Tensor, path: Tensor | None
    ) -> Tensor:
        e, t = _widen(emissions, transitions)
        states = _sum_forward(e, t, mask)
        ctx.save_for_backward(emissions, transitions, mask, path, states)
        log_z = torch.logsumexp(states[:, -1], dim=1)
        if path is None:
            return log_z
        reference = _score(e, t, path, mask)
        # rounding alone can lift a log-probability above 0
        return torch.where(reference == -math.inf, reference, (reference - log_z).clamp(max=0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        emissions, transitions, mask, path, states = ctx.saved_tensors
        e, t = _widen(emissions, transitions)
        pairs = ctx.needs_input_grad[1]
        weight = grad if path is None else -grad
        unary, pairwise = _smooth(states, e, t, mask, weight, pairs)
        if path is not None:
            # (B, T)
            passed = grad.unsqueeze(1) * mask
            unary.scatter_add_(2, path.unsqueeze(2), passed.unsqueeze(2))
            if pairs:
                index = _pair_index(path, e.shape[2])
                pairwise.flatten(2).scatter_add_(2, index, passed[:, 1:].unsqueeze(2))
        wanted = pairwise.to(transitions.dtype) if pairs else None
        return unary.to(emissions.dtype), wanted, None, None


def _sweep(
    start: Tensor, steps: Iterable[tuple[Tensor, Tensor]], plus: Semiring
) -> tuple[list[Tensor], list[Tensor]]:
    """The recursion: the states of all T positions and the back-pointers of the T-1 steps.

    ``start`` is the first state, (B, K) or (B, k, K); a step is a move and whether it leads to a
    real position. Other steps keep the state, so the final state belongs to the last real position.
    """
    states = [start]
    pointers = []
    for move, real in steps:
        reached, pointer = plus(states[-1], move)
        states.append(torch.where(real, reached, states[-1]))
        if pointer is not None:
            pointers.append(pointer)
    return states, pointers


def _moves(emissions: Tensor, transitions: Tensor) -> Tensor:
    """Transition plus the emission on arrival, (B, T-1, K, K)."""
    return transitions + emissions[:, 1:].unsqueeze(2)


def _steps(moves: Tensor, mask: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(moves.unbind(1), mask[:, 1:].unsqueeze(-1).unbind(1))


def _sum_forward(emissions: Tensor, transitions: Tensor, mask: Tensor) -> Tensor:
    """Log of the summed exponential scores of all partial paths into each slot, (B, T, K)."""
    # one move at a time: in training, filling another (B, T-1, K, K) tensor would cost more
    parts = zip(transitions.unbind(1), emissions[:, 1:].unsqueeze(2).unbind(1))
    moves = (transition + emission for transition, emission in parts)
    steps = zip(moves, mask[:, 1:].unsqueeze(2).unbind(1))
    return torch.stack(_sweep(emissions[:, 0], steps, _log_plus)[0], dim=1)


def _log_plus(state: Tensor, move: Tensor) -> tuple[Tensor, None]:
    """log-sum-exp over (B, K) states; no back-pointers."""
    # (B, K, K)
    total = state.unsqueeze(-1) + move
    # written out because it is twice as fast on a CPU as torch.logsumexp over this dimension;
    # clamping the maximum to a finite value avoids -inf - -inf, which is NaN
    top = total.amax(dim=1, keepdim=True).clamp(min=torch.finfo(total.dtype).min)
    return total.sub_(top).exp_().sum(dim=1).log() + top.squeeze(1), None


def _max_plus(state: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum over (B, K) states; a back-pointer is the slot before."""
    values, slots = (state.unsqueeze(-1) + move).max(dim=1)
    return values, slots


def _k_max_plus(state: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    """k largest over (B, k, K) states; a back-pointer is hypothesis * K + slot before."""
    # (B, k, K, K) -> (B, k*K, K)
    total = (state.unsqueeze(-1) + move).flatten(1, 2)
    values, hypotheses = total.topk(state.shape[1], dim=1)
    return values, hypotheses


def _backtrace(pointers: list[Tensor], last: Tensor, mask: Tensor, slots: int) -> Tensor:
    """Follow the back-pointers from the final hypotheses ``last`` (B, k) to paths (B, k, T)."""
    path = [last]
    if pointers:
        # (B, T-1, k*K): padded steps point to themselves
        table = torch.stack(pointers, dim=1).flatten(2)
        stay = torch.arange(table.shape[2], device=table.device)
        table = torch.where(mask[:, 1:].unsqueeze(2), table, stay)
        for pointer in reversed(table.unbind(1)):
            path.append(pointer.gather(1, path[-1]))
    return (torch.stack(path[::-1], dim=2) % slots).masked_fill(~mask.unsqueeze(1), 0)


def _smooth(
    states: Tensor,
    emissions: Tensor,
    transitions: Tensor,
    mask: Tensor,
    weight: Tensor,
    pairs: bool = True,
) -> tuple[Tensor, Tensor]:
    """Unary and pairwise marginals times ``weight`` (B,), from the forward ``states`` (B, T, K).

    p(y_i = u, y_{i+1} = v) = p(y_i = u | y_{i+1} = v) p(y_{i+1} = v), where the first factor
    needs the forward states alone: one exponential for each transition and no second
    log-sum-exp. Without ``pairs`` the pairwise result is a buffer that keeps one position only.
    """
    length = states.shape[1]
    log_z = torch.logsumexp(states[:, -1], dim=1)
    # subtracting +inf makes the probability 0: of impossible chains, impossible slots, padding
    last = torch.exp(states[:, -1] - _or_inf(log_z, log_z > -math.inf).unsqueeze(1))
    unary = [last * weight.unsqueeze(1)]
    # (B, T-1, K): log-sum-exp over the arrivals in a slot
    possible = (states[:, 1:] > -math.inf) & mask[:, 1:].unsqueeze(2)
    arrivals = _or_inf(states[:, 1:] - emissions[:, 1:], possible)
    kept = transitions.shape if pairs else transitions[:, :1].shape
    pairwise = transitions.new_empty(kept)
    for i in reversed(range(length - 1)):
        # (B, K, K), in place: these passes are the cost of a training step
        pair = pairwise[:, i if pairs else 0]
        torch.add(transitions[:, i], states[:, i].unsqueeze(2), out=pair)
        pair.sub_(arrivals[:, i].unsqueeze(1)).exp_().mul_(unary[-1].unsqueeze(1))
        unary.append(torch.where(mask[:, i + 1].unsqueeze(1), pair.sum(dim=2), unary[-1]))
    return torch.stack(unary[::-1], dim=1).masked_fill(~mask.unsqueeze(2), 0), pairwise


def _or_inf(value: Tensor, keep: Tensor) -> Tensor:
    return value.masked_fill(~keep, math.inf)


def _pair_index(path: Tensor, slots: int) -> Tensor:
    """Index (B, T-1, 1) of the path's transitions in a flattened (K, K) block."""
    return (path[:, :-1] * slots + path[:, 1:]).unsqueeze(2)


def _along(emissions: Tensor, transitions: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
    """Emissions (B, T) and transitions (B, T-1) that the path passes."""
    index = _pair_index(path, emissions.shape[2])
    unary = emissions.gather(2, path.unsqueeze(2)).squeeze(2)
    return unary, transitions.flatten(2).gather(2, index).squeeze(2)


def _score(emissions: Tensor, transitions: Tensor, path: Tensor, mask: Tensor) -> Tensor:
    unary, pairwise = _along(emissions, transitions, path)
    # masked_fill instead of multiplication: 0 * -inf is NaN
    real_pairs = pairwise.masked_fill(~mask[:, 1:], 0)
    return unary.masked_fill(~mask, 0).sum(dim=1) + real_pairs.sum(dim=1)


def _widen(emissions: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider of their two types, at least float32."""
    wide = torch.promote_types(emissions.dtype, transitions.dtype)
    wide = torch.promote_types(wide, torch.float32)
    return emissions.to(wide), transitions.to(wide)


def _check(
    emissions: Tensor, transitions: Tensor, mask: Tensor, path: Tensor | None = None
) -> None:
    if emissions.dim() != 3 or 0 in emissions.shape[1:]:
        raise ValueError(
            f"emissions: expected shape (B, T, K) with T, K >= 1, found {tuple(emissions.shape)}"
        )
    batch, length, slots = emissions.shape
    expected = {
        "transitions": (transitions, (batch, length - 1, slots, slots)),
        "mask": (mask, (batch, length)),
    }
    if path is not None:
        expected["path"] = (path, (batch, length))
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, found {tuple(tensor.shape)}")
        if tensor.device != emissions.device:
            raise ValueError(
                f"{name}: expected on {emissions.device} like emissions, found {tensor.device}"
            )
    for name, tensor in (("emissions", emissions), ("transitions", transitions)):
        if not tensor.is_floating_point():
            raise ValueError(f"{name}: expected a floating-point type, found {tensor.dtype}")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask: expected torch.bool, found {mask.dtype}")
    right_padded = mask[:, 0].all() & (mask[:, :-1] >= mask[:, 1:]).all()
    _require(right_padded, "mask: expected True first, then padding, and no empty sentence")
    if path is not None:
        if path.dtype != torch.int64:
            raise ValueError(f"path: expected torch.int64, found {path.dtype}")
        inside = ((path >= 0) & (path < slots)).all()
        _require(inside, f"path: expected slots in 0..{slots - 1}")


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, found {value}")


def _require(condition: Tensor, message: str) -> None:
    """Raise if a one-element condition is False, without making the host wait for a device."""
    if condition.device.type != "cpu":
        torch._assert_async(condition, message)
    elif not condition:
        raise ValueError(message)

"""Inference in linear chains with NumPy: the counterpart of `fairseq_nart.crf.chain`.

R chains of T positions with K slots each. Scores are (R,T,K), transitions (R,T-1,K,K): of a slot
(last axis) after one of the previous position. Lengths are (R,). Slots beyond a length are 0.
"""

import numpy as np

from fairseq_nart.runtime.states import Floats, Ints


def best_path(scores: Floats, transitions: Floats, lengths: Ints) -> Ints:
    """Viterbi: the slots (R,T) of the best path."""
    rows, length, slots = scores.shape
    if length == 1:
        return scores.argmax(axis=2)
    arrive = transitions.swapaxes(2, 3)  # (R,T-1,K,K), from the last axis
    pointers = np.empty((length - 1, rows, slots), np.int64)
    state, ends = scores[:, 0], []
    for i in range(length - 1):
        ends.append(state)
        total = arrive[:, i] + state[:, None]  # (R,K,K)
        pointers[i] = total.argmax(axis=2)
        state = np.take_along_axis(total, pointers[i][..., None], 2)[..., 0] + scores[:, i + 1]
    ends.append(state)
    every = np.arange(rows)
    path = np.zeros((rows, length), np.int64)
    current = np.stack(ends, axis=1)[every, lengths - 1].argmax(axis=1)
    for i in reversed(range(length)):
        real = i < lengths
        if i < length - 1:
            inside = i + 1 < lengths
            current = np.where(inside, pointers[i][every, current], current)
        path[:, i] = np.where(real, current, 0)
    return path


def k_best(scores: Floats, transitions: Floats, lengths: Ints, k: int) -> tuple[Floats, Ints]:
    """The k best paths, best first: total scores (R,k), -inf if missing, and slots (R,k,T)."""
    rows, length, slots = scores.shape
    state = np.full((rows, k, slots), -np.inf, scores.dtype)
    state[:, 0] = scores[:, 0]
    states, pointers = [state], []
    for i in range(length - 1):
        # (R,K,kK): of all ways to arrive in a slot, the k best
        total = (state[:, :, None] + transitions.swapaxes(2, 3)[:, None, i]).swapaxes(1, 2)
        values, pointer = _largest(total.reshape(rows, slots, k * slots), k)
        pointers.append(pointer.swapaxes(1, 2))  # (R,k,K)
        state = values.swapaxes(1, 2) + scores[:, None, i + 1]
        states.append(state)
    every = np.arange(rows)
    last = np.stack(states, axis=1)[every, lengths - 1].reshape(rows, k * slots)
    values, current = _largest(last, k)
    paths = np.zeros((rows, k, length), np.int64)
    for i in reversed(range(length)):
        if i < length - 1:
            inside = (i + 1 < lengths)[:, None]
            before = np.take_along_axis(pointers[i].reshape(rows, k * slots), current, 1)
            current = np.where(inside, before, current)
        paths[:, :, i] = np.where((i < lengths)[:, None], current % slots, 0)
    return values, paths


def log_probs(scores: Floats, transitions: Floats, path: Ints, lengths: Ints) -> Floats:
    """log p(y_i | y_{i-1}, x) of each slot of `path` (R,T), at most 0, and 0 beyond a length.

    They sum to the path's log-probability.
    """
    rows, length, _ = scores.shape
    future = np.zeros_like(scores)  # log of the summed exponential scores of what may follow a slot
    for i in reversed(range(length - 1)):
        total = transitions[:, i] + (scores[:, i + 1] + future[:, i + 1])[:, None]
        inside = (i + 1 < lengths)[:, None]
        future[:, i] = np.where(inside, log_sum_exp(total), 0)
    positions = path[..., None]
    after = np.take_along_axis(future, positions, 2)[..., 0]
    arrive = np.take_along_axis(scores, positions, 2)[..., 0] + after
    steps = np.arange(length - 1)
    arrive[:, 1:] += transitions[np.arange(rows)[:, None], steps, path[:, :-1], path[:, 1:]]
    before = np.concatenate([log_sum_exp(scores[:, :1] + future[:, :1]), after[:, :-1]], axis=1)
    result: Floats = np.minimum(arrive - before, 0)  # rounding alone can exceed 0
    result[np.arange(length) >= lengths[:, None]] = 0
    return result


def log_sum_exp(x: Floats) -> Floats:
    """Over the last axis."""
    top = np.maximum(x.max(axis=-1, keepdims=True), np.finfo(x.dtype).min)
    with np.errstate(divide="ignore"):
        result: Floats = np.log(np.exp(x - top).sum(axis=-1)) + top[..., 0]
    return result


def _largest(x: Floats, k: int) -> tuple[Floats, Ints]:
    """The k largest of the last axis, largest first, and their indices; of equal ones the first."""
    chosen = np.argpartition(-x, k - 1, axis=-1)[..., :k] if k < x.shape[-1] else None
    if chosen is None:
        chosen = np.broadcast_to(np.arange(x.shape[-1]), x.shape).copy()
    chosen.sort(axis=-1)
    values = np.take_along_axis(x, chosen, -1)
    order = np.argsort(-values, axis=-1, kind="stable")
    return np.take_along_axis(values, order, -1), np.take_along_axis(chosen, order, -1)

"""Inference in linear chains with NumPy: the counterpart of `fairseq_nart.crf.chain`.

R chains of T positions with K slots each. Scores are (R,T,K). Arrivals (R,T-1,K,K) score a slot
after one of the previous position (last axis). Lengths are (R,). Slots beyond a length are 0.
"""

import numpy as np

from fairseq_nart.runtime.states import Floats, Ints


def best_path(scores: Floats, arrivals: Floats, lengths: Ints) -> Ints:
    """Viterbi: the slots (R,T) of the best path."""
    rows, length, slots = scores.shape
    path = np.zeros((rows, length), np.int64)
    if rows == 1:
        path[0, : lengths[0]] = _best_path(scores[0, : lengths[0]], arrivals[0])
        return path
    every, flat = np.arange(rows), np.arange(rows * slots)
    pointers = []
    states = [scores[:, 0]]
    for i in range(length - 1):
        total = (arrivals[:, i] + states[-1][:, None]).reshape(-1, slots)
        pointer = total.argmax(axis=1)
        states.append(total[flat, pointer].reshape(rows, slots) + scores[:, i + 1])
        pointers.append(pointer.reshape(rows, slots))
    current = np.stack(states, axis=1)[every, lengths - 1].argmax(axis=1)
    for i in reversed(range(length)):
        if i < length - 1:
            current = np.where(i + 1 < lengths, pointers[i][every, current], current)
        path[:, i] = np.where(i < lengths, current, 0)
    return path


def _best_path(scores: Floats, arrivals: Floats) -> list[int]:
    """One chain: scores (T,K) and arrivals (T-1,K,K) -> the T slots."""
    state, pointers = scores[0], []
    for arrival, score in zip(arrivals, scores[1:]):
        total = arrival + state
        pointers.append(total.argmax(axis=1))
        state = total.max(axis=1) + score
    path = [int(state.argmax())]
    for pointer in reversed(pointers):
        path.append(pointer[path[-1]])
    return path[::-1]


def k_best(scores: Floats, arrivals: Floats, lengths: Ints, k: int) -> tuple[Floats, Ints]:
    """The k best paths, best first: total scores (R,k), -inf if missing, and slots (R,k,T)."""
    rows, length, slots = scores.shape
    state = np.full((rows, k, slots), -np.inf, scores.dtype)
    state[:, 0] = scores[:, 0]
    states, pointers = [state], []
    for i in range(length - 1):
        # (R,K,kK): of all ways to arrive in a slot, the k best
        total = arrivals[:, i, :, None] + state[:, None]
        values, pointer = largest(total.reshape(rows, slots, k * slots), k)
        pointers.append(pointer.swapaxes(1, 2))  # (R,k,K)
        state = values.swapaxes(1, 2) + scores[:, None, i + 1]
        states.append(state)
    every = np.arange(rows)
    last = np.stack(states, axis=1)[every, lengths - 1].reshape(rows, k * slots)
    values, current = largest(last, k)
    paths = np.zeros((rows, k, length), np.int64)
    for i in reversed(range(length)):
        if i < length - 1:
            inside = (i + 1 < lengths)[:, None]
            before = np.take_along_axis(pointers[i].reshape(rows, k * slots), current, 1)
            current = np.where(inside, before, current)
        paths[:, :, i] = np.where((i < lengths)[:, None], current % slots, 0)
    return values, paths


def log_probs(scores: Floats, arrivals: Floats, paths: Ints, lengths: Ints) -> Floats:
    """log p(y_i | y_{i-1}, x) of each slot of `paths` (R,N,T), at most 0, and 0 beyond a length.

    They sum to the path's log-probability.
    """
    _, length, _ = scores.shape
    future = np.zeros_like(scores)  # log of the summed exponential scores of what may follow a slot
    for i in reversed(range(length - 1)):
        total = arrivals[:, i] + (scores[:, i + 1] + future[:, i + 1])[:, :, None]
        inside = (i + 1 < lengths)[:, None]
        future[:, i] = np.where(inside, log_sum_exp(total.swapaxes(1, 2)), 0)
    log_z = log_sum_exp(scores[:, 0] + future[:, 0])
    every, steps = np.arange(len(scores))[:, None, None], np.arange(length)
    after = future[every, steps, paths]
    arrive = scores[every, steps, paths] + after
    arrive[:, :, 1:] += arrivals[every, steps[:-1], paths[:, :, 1:], paths[:, :, :-1]]
    first = np.broadcast_to(log_z[:, None, None], (*paths.shape[:2], 1))
    before = np.concatenate([first, after[:, :, :-1]], axis=2)
    result: Floats = np.minimum(arrive - before, 0)  # rounding alone can exceed 0
    return np.where((steps < lengths[:, None])[:, None], result, np.float32(0))


def log_sum_exp(x: Floats) -> Floats:
    """Over the last axis."""
    top = np.maximum(x.max(axis=-1, keepdims=True), np.finfo(x.dtype).min)
    with np.errstate(divide="ignore"):
        result: Floats = np.log(np.exp(x - top).sum(axis=-1)) + top[..., 0]
    return result


def largest(x: Floats, k: int) -> tuple[Floats, Ints]:
    """The k largest of the last axis, largest first, and their indices; all if there are fewer."""
    k = min(k, x.shape[-1])
    chosen = np.sort(np.argpartition(-x, k - 1, axis=-1)[..., :k], axis=-1)
    values = np.take_along_axis(x, chosen, -1)
    order = np.argsort(-values, axis=-1, kind="stable")
    return np.take_along_axis(values, order, -1), np.take_along_axis(chosen, order, -1)

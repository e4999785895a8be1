"""Directed graphs: paths and their tokens, the counterpart of `fairseq_nart.dag.search`."""

from dataclasses import replace

import numpy as np

from fairseq_nart.generation.options import PathDecoding, PathSearch
from fairseq_nart.runtime.states import Bools, Decoded, Floats, Ints, Source, Targets
from fairseq_nart.runtime.system import System

CHECKED = 4
"""Steps of the search for paths after which it is compared with what longer paths can score."""


class Runtime(System):
    """Decodes as `NartDag` does."""

    Decoding = PathDecoding

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest array of `encode`: attention, the distributions or the moves."""
        vertices = int(self.manifest.constants["dag_vertices"]) * source
        most = vertices * max(self.manifest.vocab_size, vertices)
        return max(super().sentence_elements(vertices), most)

    def row_elements(self, length: int, source: int) -> int:
        """Elements of the largest array for one graph of `length` vertices."""
        paths: int = self.checked.dag_paths
        return max(paths * super().row_elements(length, source), length**2)

    def propose(self, source: Source) -> Targets:
        """One target per sentence, as long as its graph."""
        vertices = self.manifest.constants["dag_vertices"] * source.mask.sum(axis=1, keepdims=True)
        return Targets(vertices, np.ones_like(vertices, bool))

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        width, last = int(targets.lengths.max()), targets.lengths[:, 0] - 1
        encoded = {name: array[:, :width] for name, array in source.encoded.items()}
        transitions = encoded.pop("transitions")[:, :, :width]
        moves, options = transitions, self.options
        if options.dag_search != PathSearch.greedy:
            moves = transitions + encoded["log_probs"][:, None]
        if options.dag_search == PathSearch.viterbi:
            several = options.dag_paths, options.dag_length_penalty, self.manifest.longest_target
            paths, lengths, valid = best_of_lengths(moves, last, *several)
        else:
            paths, lengths = (x[:, None] for x in best_moves(moves, last))
            valid = np.ones_like(lengths, bool)
        mask = np.arange(paths.shape[2]) < lengths.reshape(-1, 1)  # (R,T)
        every = np.arange(len(paths))[:, None, None]
        along = {x: y[every, paths].reshape(*mask.shape, *y.shape[2:]) for x, y in encoded.items()}
        if "features" in along:
            along = self.graphs["decode"](chains=along["features"])
        decoded = self.searched(along, mask, valid, scored)
        before = np.pad(paths[..., :-1], ((0, 0), (0, 0), (1, 0)))
        moved = np.where(mask, transitions[every, before, paths].reshape(mask.shape), 0)
        moved = np.repeat(moved, len(decoded.tokens) // len(moved), axis=0)
        return replace(decoded, log_probs=decoded.log_probs + moved)


def best_moves(moves: Floats, last: Ints) -> tuple[Ints, Ints]:
    """The path that takes the best move at each vertex: vertices (B,T) and their number (B,)."""
    path: list[Ints] = []
    rows, vertex = np.arange(len(moves)), np.zeros_like(last)
    while not path or (vertex != last).any():
        vertex = np.where(vertex == last, last, moves[rows, vertex].argmax(axis=1))
        path.append(vertex)
    vertices = np.stack(path, axis=1)
    return vertices, 1 + (vertices != last[:, None]).sum(axis=1)


def best_of_lengths(
    moves: Floats, last: Ints, count: int, penalty: float, longest: int
) -> tuple[Ints, Ints, Bools]:
    """The best path of each length up to `longest`, and of these the `count` with the largest
    score / length^penalty: vertices (B,N,T), their number (B,N) and whether there is such a path
    (B,N), best first."""
    rows, most = np.arange(len(moves)), min(longest, moves.shape[1] - 1)
    arrivals = np.ascontiguousarray(moves.swapaxes(1, 2))
    states = [np.where(np.arange(moves.shape[1]) == 0, np.zeros_like(moves[:, 0]), -np.inf)]
    scores = np.full((len(moves), most), -np.inf, moves.dtype)
    for step in range(1, most + 1):
        states.append((arrivals + states[-1][:, None]).max(axis=2))
        scores[:, step - 1] = states[-1][rows, last] / step**penalty
        if step % CHECKED == 0 and count <= step:
            # Moves score at most 0, so no longer path can score more than this.
            bound = states[-1].max(axis=1) / most**penalty
            if (np.sort(scores, axis=1)[:, -count] >= bound).all():
                break
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    vertex, numbers = np.broadcast_to(last[:, None], order.shape), order + 1
    valid, path = scores[rows[:, None], order] > -np.inf, []
    for step in range(min(len(states) - 1, int(numbers[valid].max())), 0, -1):
        path.append(vertex)
        before = (states[step - 1][:, None] + arrivals[rows[:, None], vertex]).argmax(axis=2)
        vertex = np.where(step <= numbers, before, vertex)
    return np.stack(path[::-1], axis=2), np.where(valid, numbers, 1), valid

"""Searches equal the enumeration of all paths, in the plugin and in exported models."""

import pytest
import torch
from graphs import all_paths, move_score, problems
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_nart.dag import search
from fairseq_nart.runtime import dag

few = settings(max_examples=80, deadline=None)


def moves_of(problem):
    """Transitions and the best token of the vertex that is entered."""
    return problem.transitions + problem.emissions.amax(dim=2)[:, None]


@few
@given(problems())
def test_best_moves_are_those_of_a_loop(device, problem):
    moves, last = moves_of(problem), problem.last
    vertices, lengths = (x.cpu() for x in search.best_moves(moves.to(device), last.to(device)))
    arrays = dag.best_moves(moves.numpy(), last.numpy())
    for row, end in enumerate(last.tolist()):
        vertex, path = 0, []
        while vertex != end:
            vertex = int(moves[row, vertex].argmax())
            path.append(vertex)
        assert vertices[row, : lengths[row]].tolist() == path
        assert arrays[0][row, : arrays[1][row]].tolist() == path


@few
@given(
    problems(), st.integers(1, 6), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.sampled_from([2, 99])
)
def test_best_of_lengths_equals_enumeration(device, problem, count, penalty, longest):
    moves, last = moves_of(problem), problem.last
    of_torch = search.best_of_lengths(moves.to(device), last.to(device), count, penalty, longest)
    of_numpy = dag.best_of_lengths(moves.numpy(), last.numpy(), count, penalty, longest)
    for row, end in enumerate(last.tolist()):
        best = []
        for length in range(1, min(end, longest) + 1):
            scores = {path: move_score(moves[row], path) for path in all_paths(end, length)}
            path = max(scores, key=scores.__getitem__)
            best.append((scores[path].item() / length**penalty, path))
        expected = [path for _, path in sorted(best, reverse=True)[:count]]
        for vertices, lengths, valid in (of_torch, of_numpy):
            found = [
                tuple(vertices[row, n, : lengths[row, n]].tolist())
                for n in range(valid.shape[1])
                if valid[row, n]
            ]
            assert found == expected


@pytest.mark.parametrize("count", [1, 3])
def test_a_long_path_is_found_after_short_ones(count):
    """One that starts with an improbable move, so that its first part is worse than short paths."""
    steps = torch.arange(60)
    later = steps > steps[:, None]
    moves = torch.full((1, 60, 60), -1.0).masked_fill(~later, -torch.inf)
    moves[0, steps[1:-1], steps[2:]] = 0.0
    moves[0, 0, 1:-1] = -10.0
    last = torch.tensor([59])
    for penalty in (0.0, 0.7, 1.0):
        expected = search.best_of_lengths(moves, last, count, penalty, 1000)
        found = dag.best_of_lengths(moves.numpy(), last.numpy(), count, penalty, 1000)
        assert found[1].tolist() == expected[1].tolist()
        assert found[1][0, 0] == (59 if penalty else 1)

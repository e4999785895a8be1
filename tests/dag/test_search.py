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
def test_search_of_long_graphs_may_end_early(count):
    """The bound on longer paths is exact: the result equals the plugin's."""
    generator = torch.Generator().manual_seed(1)
    steps = torch.arange(60)
    scores = 4 * torch.randn(3, 60, 60, generator=generator)
    later = steps > steps[:, None]
    moves = (
        scores.masked_fill(~later, -torch.inf).log_softmax(dim=2).masked_fill(~later, -torch.inf)
    )
    last = torch.full((3,), 59)
    for penalty in (0.0, 0.7, 1.0):
        expected = search.best_of_lengths(moves, last, count, penalty, 1000)
        found = dag.best_of_lengths(moves.numpy(), last.numpy(), count, penalty, 1000)
        assert found[1].tolist() == expected[1].tolist()
        assert (found[0] == expected[0].numpy()[..., : found[0].shape[2]]).all()

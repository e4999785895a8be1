"""Search in chains equals `fairseq_nart.crf.chain` and the enumeration of all paths."""

import math

import numpy as np
import pytest
import torch
from enumeration import problems, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_nart.crf import chain
from fairseq_nart.runtime import search

few = settings(max_examples=60, deadline=None)
small = {"max_slots": 4, "scales": (1.0, 1e3), "impossible": (0.0, 0.5)}


def arrays(problem, rounded=False):
    """The scores, arrivals and lengths of `problem` for the runtime; rounded, many are equal."""
    if rounded:
        problem.emissions, problem.transitions = (
            x.round() for x in (problem.emissions, problem.transitions)
        )
    arrivals = problem.transitions.transpose(2, 3).contiguous().numpy()
    return problem.emissions.numpy(), arrivals, np.array(problem.lengths)


@few
@given(problems(**small))
def test_best_path_equals_the_chain(problem):
    path = search.best_path(*arrays(problem))
    _, expected = chain.best_path(problem.emissions, problem.transitions, problem.mask)
    assert path.tolist() == expected.tolist()


@few
@given(problems(**small))
def test_best_path_has_the_best_score_if_several_are_equal(problem):
    path = torch.from_numpy(search.best_path(*arrays(problem, rounded=True)))
    found = chain.score(problem.emissions, problem.transitions, path, problem.mask)
    for row, length, paths, scores in sentences(problem):
        assert found[row] == scores.max()
        assert tuple(path[row, :length].tolist()) in paths and not path[row, length:].any()


@few
@given(problems(**small))
def test_best_path_of_one_row_equals_that_of_the_batch(problem):
    scores, arrivals, lengths = arrays(problem)
    together = search.best_path(scores, arrivals, lengths)
    for row in range(len(lengths)):
        one = slice(row, row + 1)
        assert (search.best_path(scores[one], arrivals[one], lengths[one]) == together[one]).all()


@few
@given(problems(**small), st.integers(1, 70), st.booleans())
def test_k_best_equals_enumeration(problem, k, rounded):
    """Distinct paths, best first; -inf for those that do not exist, because k may exceed K^T."""
    scores, arrivals, lengths = arrays(problem, rounded)
    totals, paths = search.k_best(scores, arrivals, lengths, k)
    assert totals.shape == (len(lengths), k) and paths.shape == (*totals.shape, scores.shape[1])
    for row, length, every, expected in sentences(problem):
        possible = sorted(expected[expected > -math.inf].tolist(), reverse=True)[:k]
        missing = k - len(possible)
        assert totals[row].tolist() == pytest.approx(possible + [-math.inf] * missing, abs=1e-9)
        found = [tuple(path) for path in paths[row, : len(possible), :length].tolist()]
        assert len(set(found)) == len(found)
        for path, total in zip(found, totals[row], strict=False):
            assert expected[every.index(path)].item() == pytest.approx(total, abs=1e-9)
        assert not paths[row, :, length:].any()


@few
@given(problems(**small), st.integers(1, 20))
def test_k_best_equals_the_chain(problem, k):
    totals, paths = search.k_best(*arrays(problem), k)
    expected, theirs = chain.k_best(problem.emissions, problem.transitions, problem.mask, k)
    np.testing.assert_allclose(totals, expected.numpy(), atol=1e-9)
    exists = totals > -math.inf
    assert paths[exists].tolist() == theirs.numpy()[exists].tolist()


@few
@given(problems(**small))
def test_log_probs_equal_the_chain(problem):
    """Of the best path, which is possible, and of a random one if it is."""
    scores, arrivals, lengths = arrays(problem)
    chains = problem.emissions, problem.transitions
    for path in (torch.from_numpy(search.best_path(scores, arrivals, lengths)), None):
        if path is None:
            path = problem.random_path()
            if chain.score(*chains, path, problem.mask).isinf().any():
                return
        found = search.log_probs(scores, arrivals, path.numpy()[:, None], lengths)[:, 0]
        expected = chain.path_log_probs(*chains, path, problem.mask)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-9)
        likelihood = chain.log_likelihood(*chains, path, problem.mask)
        np.testing.assert_allclose(found.sum(axis=1), likelihood.numpy(), atol=1e-9)


def test_log_probs_of_impossible_slots_are_minus_infinity():
    """k-best search returns such paths if fewer than k are possible."""
    scores = np.array([[[0.0, -np.inf], [0.0, -np.inf]]], np.float32)
    arrivals, path, lengths = np.zeros((1, 1, 2, 2), np.float32), np.array([[1, 1]]), np.array([2])
    assert search.log_probs(scores, arrivals, path[:, None], lengths).tolist() == [
        [[-math.inf] * 2]
    ]


def test_log_sum_exp_of_nothing_possible_is_impossible():
    assert search.log_sum_exp(np.full((2, 3), -np.inf)).tolist() == [-math.inf] * 2
    assert search.log_sum_exp(np.array([1e4, 1e4])) == pytest.approx(1e4 + math.log(2))

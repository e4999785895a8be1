"""The likelihood of a target under a graph equals the enumeration of all paths."""

import math

import pytest
import torch
from graphs import all_paths, problems, score
from hypothesis import given, settings

from fairseq_nart.dag.likelihood import best_alignment, dag_loss

few = settings(max_examples=60, deadline=None)


def enumerated(emissions, transitions, last, lengths):
    """For each sentence all paths and their scores, or None if the target is too long."""
    for row, (end, length) in enumerate(zip(last.tolist(), lengths.tolist(), strict=True)):
        paths = all_paths(end, length)
        scores = [score(emissions[row], transitions[row], path) for path in paths]
        yield (paths, torch.stack(scores)) if paths else None


@few
@given(problems())
def test_loss_and_gradients_equal_enumeration(device, problem):
    ours, theirs = (
        [x.clone().requires_grad_(x.is_floating_point()) for x in problem.arguments(where)]
        for where in (device, "cpu")
    )
    loss, too_long = dag_loss(*ours)
    each = list(enumerated(*theirs))
    assert too_long == sum(one is None for one in each)
    expected = sum((-one[1].logsumexp(0) for one in each if one), torch.zeros(()).double())
    torch.testing.assert_close(loss.cpu(), expected)
    loss.backward()
    if expected.requires_grad:
        expected.backward()
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        reference = torch.zeros_like(other) if other.grad is None else other.grad
        torch.testing.assert_close(mine.grad.cpu(), reference, atol=1e-6, rtol=1e-6)


@few
@given(problems())
def test_best_alignment_equals_enumeration(device, problem):
    path = best_alignment(*problem.arguments(device)).cpu()
    for row, one in enumerate(enumerated(*problem.arguments())):
        if one is not None:
            length = int(problem.lengths[row])
            assert tuple(path[row, :length].tolist()) == one[0][int(one[1].argmax())]
            assert not path[row, length:].any()


@few
@given(problems(most=5))
def test_all_targets_of_a_graph_have_probability_one(problem):
    """Over all lengths and all sequences of two tokens."""
    _, transitions, last, _ = problem.arguments()
    vertices, most = transitions.size(1), int(last[0])
    tokens = torch.randn(vertices, 2, dtype=torch.float64).log_softmax(dim=1)
    total = 0.0
    for length in range(1, most + 1):
        for number in range(2**length):
            target = torch.tensor([(number >> i) & 1 for i in range(length)])
            arguments = tokens[:, target][None], transitions[:1], last[:1], torch.tensor([length])
            total += math.exp(-dag_loss(*arguments)[0].item())
    assert total == pytest.approx(1.0)


def test_improbable_paths_do_not_underflow(device):
    """The only path visits every vertex, although each move along it is very improbable."""
    size = 40
    steps = torch.arange(size, device=device)
    transitions = -50.0 * (steps[None, :] - steps[:, None] == 1).float()
    transitions = transitions.masked_fill(steps <= steps[:, None], -math.inf)[None].requires_grad_()
    emissions = torch.zeros(1, size, size - 1, device=device)
    number = torch.tensor([size - 1], device=device)
    loss, too_long = dag_loss(emissions, transitions, number, number)
    loss.backward()
    assert loss.item() == pytest.approx(50.0 * (size - 1)) and too_long == 0
    torch.testing.assert_close(transitions.grad[0].diagonal(1), -torch.ones(size - 1).to(device))

"""Reverse cross-entropy and REINFORCE, compared with their definitions."""

import itertools

import torch

from fairseq_nart.losses.finetuning import REWARD_SCALE, reinforce, reverse_cross_entropy


def test_reverse_cross_entropy_is_divergence_plus_entropy(device):
    torch.manual_seed(0)
    emissions = torch.randn(2, 3, 5, device=device)
    teacher = torch.randn(2, 3, 5, device=device).log_softmax(dim=2)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], device=device).bool()
    p = torch.distributions.Categorical(logits=emissions)
    divergence = torch.distributions.kl_divergence(
        p, torch.distributions.Categorical(logits=teacher)
    )
    expected = ((divergence + p.entropy()) * mask).sum(dim=1)
    torch.testing.assert_close(reverse_cross_entropy(emissions, teacher, mask), expected)
    noisy = teacher.masked_fill(~mask[..., None], float("nan"))
    torch.testing.assert_close(reverse_cross_entropy(emissions, noisy, mask), expected)


def test_reinforce_has_no_gradient_at_the_baseline(device):
    log_probs = torch.randn(4, device=device, requires_grad=True)
    costs = torch.tensor([3.0, 1.0, 2.0, 5.0], device=device)
    reinforce(log_probs, costs, baseline=costs).backward()
    assert not log_probs.grad.any()


def test_reinforce_expectation_is_gradient_of_expected_cost():
    """Over all pairs of samples of two sentences. Subtracting their mean halves the gradient."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    costs, baseline = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    each = torch.arange(2)
    (expected,) = torch.autograd.grad((logits.softmax(dim=1) * costs).sum(), logits)
    actual = torch.zeros_like(expected)
    for sample in itertools.product(range(3), repeat=2):
        chosen = logits.log_softmax(dim=1)[each, list(sample)]
        loss = reinforce(chosen, costs[each, list(sample)], baseline)
        (gradient,) = torch.autograd.grad(loss, logits)
        actual += chosen.detach().sum().exp() * gradient
    torch.testing.assert_close(actual, expected * REWARD_SCALE / 2)

"""The discriminator and the reversed gradient."""

import pytest
import torch
from torch.nn import functional as F

from fairseq_nart.layers.adversary import Discriminator, reversed_gradient


def test_loss_is_the_binary_cross_entropy(device):
    torch.manual_seed(0)
    judge = Discriminator(4, 8).to(device)
    others, real = torch.randn(5, 4, device=device), torch.randn(3, 4, device=device)
    labels = torch.tensor([0.0] * 5 + [1.0] * 3, device=device)
    logits = judge(torch.cat([others, real]))
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    torch.testing.assert_close(judge.loss(others, real), expected)
    assert judge.loss(others[:0], real[:0]) == 0


def test_gradient_is_reversed_and_the_value_is_not(device):
    x = torch.randn(3, 2, device=device, requires_grad=True)
    reverse = reversed_gradient(x, 0.5)
    assert torch.equal(reverse, x)
    (reverse**2).sum().backward()
    torch.testing.assert_close(x.grad, -0.5 * 2 * x.detach())


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_scale_changes_the_steps_of_adam_and_not_the_start(scale):
    others, real, logits = torch.randn(5, 4), torch.randn(3, 4), []
    moved = []
    for factor in (1.0, scale):
        torch.manual_seed(0)
        judge = Discriminator(4, 8, factor)
        before = factor * judge.hidden.weight.detach().clone()
        logits.append(judge(real))
        optimizer = torch.optim.Adam(judge.parameters(), 1e-3, eps=1e-16)
        judge.loss(others, real).backward()
        optimizer.step()
        moved.append(factor * judge.hidden.weight.detach() - before)
    torch.testing.assert_close(*logits)
    torch.testing.assert_close(moved[1], scale * moved[0], rtol=1e-3, atol=1e-6)

"""Word-level loss, compared with its definition."""

import pytest
import torch

from fairseq_nart.losses import tokens
from fairseq_nart.losses.tokens import token_cross_entropy, token_cross_entropy_and_scores


def test_cross_entropy_equals_definition(device):
    torch.manual_seed(0)
    emissions = torch.randn(2, 3, 5, dtype=torch.float64, device=device).float()
    target = torch.tensor([[1, 4, 2], [3, 1, 1]], device=device)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool, device=device)
    log_probs = emissions.log_softmax(dim=2)
    expected = 0.0
    for b, t in mask.nonzero().tolist():
        gold = log_probs[b, t, target[b, t]]
        expected -= 0.9 * gold + 0.1 * log_probs[b, t].mean()
    torch.testing.assert_close(token_cross_entropy(emissions, target, mask, 0.1), expected)


def test_cross_entropy_with_padding_and_half_precision(device):
    emissions = torch.randn(2, 3, 5, device=device)
    target = torch.ones(2, 3, dtype=torch.long, device=device)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bool, device=device)
    loss = token_cross_entropy(emissions, target, mask)
    noisy = emissions.masked_fill(~mask[..., None], 1e4)
    torch.testing.assert_close(token_cross_entropy(noisy, target, mask), loss)
    half = token_cross_entropy(emissions.bfloat16(), target, mask)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss, rtol=1e-2, atol=1e-2)


def reference(emissions, target, mask, ids, smoothing):
    """Both results with torch's own functions."""
    log_probs = emissions.log_softmax(dim=2)
    gold = log_probs.gather(2, target[..., None]).squeeze(2)
    loss = (1 - smoothing) * gold + smoothing * log_probs.mean(dim=2)
    return -(loss * mask).sum(), emissions.gather(2, ids)


@pytest.mark.parametrize("elements", [1, 14, 10**9], ids=["row by row", "two rows", "at once"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("overwrite", [False, True])
def test_cross_entropy_and_scores_equal_reference(
    elements, smoothing, overwrite, device, monkeypatch
):
    monkeypatch.setattr(tokens, "PASS_ELEMENTS", {"cpu": elements, "accelerator": elements})
    torch.manual_seed(1)
    weights = torch.randn(2, 3, 7, dtype=torch.float64, device=device, requires_grad=True)
    target = torch.randint(7, (2, 3), device=device)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool, device=device)
    ids = torch.randn(2, 3, 7, device=device).topk(4, dim=2).indices
    weight = torch.randn(2, 3, 4, dtype=torch.float64, device=device)
    expected = reference(weights * 2, target, mask, ids, smoothing)
    (expected_gradient,) = torch.autograd.grad(
        3 * expected[0] + (expected[1] * weight).sum(), weights
    )
    actual = token_cross_entropy_and_scores(weights * 2, target, mask, ids, smoothing, overwrite)
    torch.testing.assert_close(actual, expected)
    (gradient,) = torch.autograd.grad(3 * actual[0] + (actual[1] * weight).sum(), weights)
    torch.testing.assert_close(gradient, expected_gradient)


def test_use_of_overwritten_emissions_is_an_error(device):
    weights = torch.randn(1, 2, 5, device=device, requires_grad=True)
    emissions = weights * 2
    target = torch.ones(1, 2, dtype=torch.long, device=device)
    loss = token_cross_entropy(emissions, target, target.bool(), overwrite=True)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    kept = weights.detach().clone().requires_grad_()
    token_cross_entropy(kept, target, target.bool()).backward()
    assert torch.equal(kept, weights)

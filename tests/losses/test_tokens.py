"""Word-level loss against its definition."""

import torch

from fairseq_nart.losses.tokens import token_cross_entropy


def test_equals_the_definition(device):
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


def test_padding_and_half_precision(device):
    emissions = torch.randn(2, 3, 5, device=device)
    target = torch.ones(2, 3, dtype=torch.long, device=device)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bool, device=device)
    loss = token_cross_entropy(emissions, target, mask)
    noisy = emissions.masked_fill(~mask[..., None], 1e4)
    torch.testing.assert_close(token_cross_entropy(noisy, target, mask), loss)
    half = token_cross_entropy(emissions.bfloat16(), target, mask)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss, rtol=1e-2, atol=1e-2)

"""Similarity of neighbouring states, compared with its definition."""

import pytest
import torch

from fairseq_nart.losses.similarity import neighbour_similarity


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cosine(x, y):
    return (x @ y / (x.norm() * y.norm())).item()


def test_sum_equals_the_definition(device):
    states, embeddings = random(3, 5, 4), random(3, 5, 6, seed=1)
    lengths = (5, 3, 1)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    expected = sum(
        1 + max(0, cosine(h[t], h[t + 1])) * (1 - cosine(e[t], e[t + 1]))
        for h, e, length in zip(states, embeddings, lengths, strict=True)
        for t in range(length - 1)
    )
    result = neighbour_similarity(states.to(device), embeddings.to(device), mask.to(device))
    assert result.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "states, embeddings, expected",
    [
        ([[1, 0], [-2, 0]], [[0, 1], [0, -3]], 1),  # opposite states
        ([[1, 0], [2, 0]], [[0, 1], [0, -3]], 3),  # the most
        ([[1, 0], [0, 2]], [[0, 1], [0, -3]], 1),  # orthogonal states
        ([[1, 0], [2, 0]], [[5, 1], [5, 1]], 1),  # equal tokens
        ([[1, 0], [-2, 0]], [[5, 1], [5, 1]], 1),
        ([[0, 0], [2, 0]], [[0, 1], [0, -3]], 1),  # a zero state
        ([[1, 0], [2, 0]], [[0, 0], [0, 3]], 2),  # a zero embedding
    ],
)
def test_pairs(states, embeddings, expected):
    states, embeddings = (torch.tensor([x], dtype=torch.float32) for x in (states, embeddings))
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert neighbour_similarity(states, embeddings, mask).item() == pytest.approx(expected)


def test_each_pair_is_within_its_bounds():
    states, embeddings = random(2000, 2, 2), random(2000, 2, 2, seed=1)
    mask = torch.ones(1, 2, dtype=torch.bool)
    sums = [
        neighbour_similarity(h[None], e[None], mask).item()
        for h, e in zip(states, embeddings, strict=True)
    ]
    assert min(sums) == 1 and 2.9 < max(sums) <= 3


def test_gradients(device):
    """None at padding, at zero vectors and in embeddings; descent makes neighbours differ."""
    states = random(2, 4, 6).abs().to(device)
    states[0, 1] = 0
    states.requires_grad_()
    embeddings = random(2, 4, 6, seed=1).to(device).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool, device=device)
    before = neighbour_similarity(states, embeddings, mask)
    before.backward()
    assert states.grad.isfinite().all() and embeddings.grad is None
    assert not states.grad[1, 2:].any() and states.grad[1, :2].any()
    stepped = states.detach() - 0.01 * states.grad
    assert neighbour_similarity(stepped, embeddings, mask) < before


def test_padding_has_no_effect_and_half_precision_is_summed_in_fp32(device):
    states, embeddings = (random(2, 4, 6, seed=n).float().to(device) for n in (0, 1))
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.bool, device=device)
    loss = neighbour_similarity(states, embeddings, mask)
    noisy = states.masked_fill(~mask[..., None], float("nan"))
    torch.testing.assert_close(neighbour_similarity(noisy, embeddings, mask), loss)
    half = neighbour_similarity(states.bfloat16(), embeddings.bfloat16(), mask)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss, rtol=2e-2, atol=2e-2)

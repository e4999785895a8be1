"""Improved semantic hashing: bits, the saturating sigmoid and its gradient."""

import math

import pytest
import torch

from fairseq_nart.latent.semantic_hashing import (
    SemanticHashing,
    saturating_sigmoid,
    to_bits,
    to_code,
)


@pytest.fixture
def hashing(device):
    torch.manual_seed(3)
    return SemanticHashing(dim=8, ffn_dim=16, bits=5).to(device).eval()


def test_bits_of_a_code_and_back(device):
    codes = torch.arange(32, device=device)
    bits = to_bits(codes, 5)
    assert bits[6].tolist() == [0, 1, 1, 0, 0]
    assert torch.equal(to_code(bits), codes)
    assert len({tuple(row) for row in bits.tolist()}) == 32


def test_saturating_sigmoid_and_its_gradient(device):
    """It reaches 0 and 1, where its gradient is 0."""
    x = torch.tensor([-9.0, -1.0, 0.0, 0.5, 9.0], device=device, requires_grad=True)
    y = saturating_sigmoid(x)
    sigmoid = [1 / (1 + math.exp(-v)) for v in (-1.0, 0.0, 0.5)]
    assert y.tolist() == pytest.approx([0.0, *(1.2 * s - 0.1 for s in sigmoid), 1.0], abs=1e-6)
    y.sum().backward()
    slopes = [1.2 * s * (1 - s) for s in sigmoid]
    assert x.grad.tolist() == pytest.approx([0.0, *slopes, 0.0], abs=1e-6)


def test_latents_are_discrete_in_decoding(hashing, device):
    """The vectors are those of the codes, whose bits are the signs of the projections."""
    z = torch.randn(3, 4, 8, device=device)
    mask = torch.ones(3, 4, dtype=torch.bool, device=device)
    quantized = hashing(z, mask)
    assert torch.equal(quantized.labels[..., 0], to_code(hashing.projection(z) > 0))
    torch.testing.assert_close(quantized.vectors, hashing.embed(quantized.labels[..., 0]))
    assert torch.equal(hashing(z, mask).vectors, quantized.vectors)


def test_gradient_passes_the_bits_as_that_of_the_sigmoid(hashing, device):
    """Bits that are not differentiable have the gradient of saturated numbers."""
    z = torch.randn(3, 4, 8, device=device, requires_grad=True)
    mask = torch.ones(3, 4, dtype=torch.bool, device=device)
    direction = torch.randn(3, 4, 8, device=device)
    (hashing(z, mask).vectors * direction).sum().backward()
    logits = hashing.projection(z.detach()).requires_grad_()
    bits = (logits.detach() > 0).float().requires_grad_()
    (hashing._embed(bits) * direction).sum().backward()
    (slope,) = torch.autograd.grad(saturating_sigmoid(logits).sum(), logits)
    torch.testing.assert_close(z.grad, (bits.grad * slope) @ hashing.projection.weight)
    assert z.grad.any()


def test_training_adds_noise_and_half_of_the_sentences_are_continuous(hashing, device):
    torch.manual_seed(1)
    z = torch.randn(1, 2, 8, device=device).expand(400, -1, -1)
    mask = torch.ones(400, 2, dtype=torch.bool, device=device)
    hashing.train()
    quantized = hashing(z, mask)
    discrete = (quantized.vectors - hashing.embed(quantized.labels[..., 0])).abs().amax(dim=(1, 2))
    share = (discrete < 1e-5).float().mean().item()
    assert 0.4 < share < 0.6
    assert len(quantized.labels.unique()) > 2  # the noise changes bits

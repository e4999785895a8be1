"""Compression and expansion: shapes, padding and which positions depend on which."""

import pytest
import torch

from fairseq_nart.latent.autoencoder import Compressor, Decompressor, repeated


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_shapes(steps, device):
    compressor, decompressor = (x(8, steps, 0.0).to(device) for x in (Compressor, Decompressor))
    mask = torch.tensor([[True, True], [True, False]], device=device)
    x = torch.randn(2, 2 * 2**steps, 8, device=device)
    z = compressor(x, mask)
    assert z.shape == (2, 2, 8)
    assert decompressor(z, mask).shape == x.shape


@pytest.mark.parametrize("kind", [Compressor, Decompressor])
def test_a_sentence_does_not_depend_on_padding(kind, device):
    torch.manual_seed(1)
    module = kind(8, 2, 0.0).to(device)
    lengths = torch.tensor([3, 1], device=device)
    mask = torch.arange(4, device=device) < lengths[:, None]
    width = 16 if kind is Compressor else 4
    x = torch.randn(2, width, 8, device=device)
    together = module(x, mask)
    for row, length in enumerate(lengths.tolist()):
        alone = module(x[row : row + 1, : width // 4 * length], mask[row : row + 1, :length])
        torch.testing.assert_close(together[row, : alone.size(1)], alone[0])


def test_all_positions_of_a_block_reach_its_latent(device):
    compressor = Compressor(8, 3, 0.0).to(device)
    x = torch.randn(1, 16, 8, device=device, requires_grad=True)
    z = compressor(x, torch.ones(1, 2, dtype=torch.bool, device=device))
    (gradient,) = torch.autograd.grad(z[0, 0].square().sum(), x)
    assert gradient[0, :8].abs().sum(dim=1).all()


def test_repeated_mask(device):
    mask = torch.tensor([[True, False]], device=device)
    assert repeated(mask, 3).tolist() == [[True] * 3 + [False] * 3]

"""Dropout: its share, scale and gradient, and reproducibility."""

import pytest
import torch

from fairseq_nart.layers.dropout import dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_scale_and_gradient(p, dtype, device):
    torch.manual_seed(0)
    x = torch.ones(333, 301, dtype=dtype, device=device, requires_grad=True)
    y = dropout(x, p, True)
    kept = y != 0
    assert (~kept).float().mean().item() == pytest.approx(p, abs=0.01)
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)))
    assert (~kept).float().mean(dim=0).std() < 0.05, "columns are not independent"
    y.float().sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_dropout_can_be_off_and_is_reproducible(device):
    x = torch.randn(5, 7, device=device)
    assert dropout(x, 0.5, False) is x and dropout(x, 0.0, True) is x
    torch.manual_seed(3)
    first = dropout(x, 0.5, True)
    assert not torch.equal(first, dropout(x, 0.5, True))
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.5, True))


@pytest.mark.parametrize("p", [0.1, 0.3])
def test_scale_is_not_rounded(p, device):
    """In bf16 each product is rounded, up or down; a rounded scale would shift all of them."""
    torch.manual_seed(0)
    x = (1 + torch.rand(400_000, device=device)).bfloat16()
    y = dropout(x, p, True)
    kept = y != 0
    ratio = (y[kept].double() / x[kept].double()).mean().item()
    assert ratio == pytest.approx(1 / (1 - p), rel=2e-4)


def test_probability_one_drops_everything(device):
    assert not dropout(torch.ones(5, device=device), 1.0, True).any()

"""Linear layers for decoding, compared with plain products."""

import pytest
import torch
from torch import nn

from fairseq_nart.layers import linear
from fairseq_nart.layers.linear import PackedLinear

pytestmark = [
    pytest.mark.usefixtures("pack_small_layers"),
    pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"),
]


def test_small_products_are_not_packed(monkeypatch):
    """The limit is a number of multiplications."""
    layer, taken = nn.Linear(24, 40), []
    packed = linear.PackedLinear(layer.weight, layer.bias)
    monkeypatch.setattr(packed, "_product", lambda x, form: taken.append(len(x)))
    monkeypatch.setattr(linear, "WORTH_PACKING", 10 * 24 * 40)
    with torch.no_grad():
        for rows in (9, 10, 11):
            packed(torch.randn(rows, 24))
    assert taken == [10, 11]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (0, 4), (40,)])
def test_packed_equals_plain_product(shape, bias, monkeypatch):
    plain, x = nn.Linear(24, 40, bias=bias), torch.randn(*shape, 48)[..., ::2]
    packed = PackedLinear(plain.weight, plain.bias)
    with torch.no_grad():
        expected = plain(x)
        monkeypatch.setattr(nn.functional, "linear", None)  # which must not be used
        torch.testing.assert_close(packed(x), expected, rtol=1e-5, atol=1e-6)


def test_gradients_and_other_precisions_use_plain_product():
    plain, x = nn.Linear(24, 40), torch.randn(3, 24)
    packed = PackedLinear(plain.weight, plain.bias)
    packed(x).sum().backward()
    torch.testing.assert_close(plain.weight.grad, x.sum(0).expand(40, 24))
    with torch.no_grad():
        assert torch.equal(packed.bfloat16()(x.bfloat16()), plain.bfloat16()(x.bfloat16()))

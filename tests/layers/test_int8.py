"""Linear layers in 8-bit integers: what is rounded, what stays, what is refused."""

import pytest
import torch
from torch import nn
from toys import batch_of, build

from fairseq_nart.layers.int8 import Int8Linear, use_int8


@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_product_of_rounded_factors(bias):
    linear, x = nn.Linear(24, 40, bias=bias), torch.randn(3, 5, 24) + 0.3
    scales = linear.weight.abs().amax(dim=1, keepdim=True) / 127
    weight = (linear.weight / scales).round() * scales
    step = (x.max() - x.min()).item() / 127
    zero = round(-x.min().item() / step)
    rounded = ((x / step).round() + zero).clamp(0, 127).sub(zero) * step
    expected = nn.functional.linear(rounded, weight, linear.bias)
    torch.testing.assert_close(Int8Linear(linear)(x), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, linear(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", ["nart_tiny", "nart_dcrf_tiny", "nart_refinement_tiny"])
def test_a_model_keeps_its_states(arch, task):
    """Nearly; every linear layer is replaced, once, and tied embeddings stay tied."""
    model, source = build(task, arch).eval(), batch_of(task, "cpu")["net_input"]["src_tokens"]
    before = model.encode(source)
    for _ in range(2):
        use_int8(model)
    after = model.encode(source)
    assert not any(type(module) is nn.Linear for module in model.modules())
    assert model.decoder.output_projection.weight is model.encoder.embed_tokens.weight
    difference = (after.output - before.output)[before.mask].std()
    assert 0 < difference < 0.05 * before.output[before.mask].std()


def test_other_arithmetic_is_refused(task):
    with pytest.raises(ValueError, match=r"--int8 is for float32 on a CPU, not torch\.bfloat16"):
        use_int8(build(task, "nart_tiny").bfloat16())


def test_a_torch_without_them(task, monkeypatch):
    monkeypatch.delattr(torch, "quantize_per_channel")
    with pytest.raises(ValueError, match="has no such integers: leave --int8 out"):
        use_int8(build(task, "nart_tiny"))

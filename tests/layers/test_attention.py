"""Attention, compared with torch's, and positional attention."""

import types

import pytest
import torch

from fairseq_nart.layers.attention import MultiheadAttention, PositionalAttention, without_cudnn

D, HEADS = 16, 4


def torch_twin(ours: MultiheadAttention) -> torch.nn.MultiheadAttention:
    """torch's module with the weights of ours."""
    twin = torch.nn.MultiheadAttention(D, HEADS, batch_first=True)
    projections = [ours.q_proj, ours.k_proj, ours.v_proj]
    with torch.no_grad():
        twin.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        twin.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
        twin.out_proj.load_state_dict(ours.out_proj.state_dict())
    return twin


@pytest.mark.parametrize("with_gradient", [True, False])
def test_attention_equals_torch(with_gradient, device):
    """Both code paths: the one for training on CPU and torch's fused one."""
    torch.manual_seed(0)
    ours = MultiheadAttention(D, HEADS).to(device)
    twin = torch_twin(ours).to(device)
    query, source = torch.randn(3, 5, D, device=device), torch.randn(3, 7, D, device=device)
    mask = torch.arange(7, device=device) < torch.tensor([[7], [4], [1]], device=device)
    with torch.set_grad_enabled(with_gradient):
        out = ours(query, source, mask[:, None, None])
        expected, _ = twin(query, source, source, key_padding_mask=~mask, need_weights=False)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_positional_weights_do_not_depend_on_tokens(device):
    """With fixed weights the output is an affine function of the values."""
    torch.manual_seed(0)
    attention = PositionalAttention(D, HEADS).to(device).eval()
    positions = torch.randn(6, D, device=device)
    x, y = torch.randn(2, 3, 6, D, device=device)
    mask = torch.ones(3, 1, 1, 6, dtype=torch.bool, device=device)

    def f(values):
        return attention(positions, values, mask)

    torch.testing.assert_close(f(x + y) + f(0 * x), f(x) + f(y), rtol=1e-4, atol=1e-5)
    self_attention = MultiheadAttention(D, HEADS).to(device).eval()
    of_sum = self_attention(x + y, x + y, mask) + self_attention(0 * x, 0 * x, mask)
    of_parts = self_attention(x, x, mask) + self_attention(y, y, mask)
    assert (of_sum - of_parts).abs().max() > 1e-3


def test_width_not_divisible_by_heads_is_refused():
    with pytest.raises(ValueError, match="width 10 is not a multiple of 4"):
        MultiheadAttention(10, 4)


@pytest.mark.parametrize("enabled", [True, False])
def test_cudnn_is_disabled_on_a_gpu(enabled):
    """The previous setting is restored, even after an exception."""
    flags = torch.backends.cuda
    before = flags.cudnn_sdp_enabled()
    flags.enable_cudnn_sdp(enabled)
    try:
        with without_cudnn(torch.ones(1)):
            assert flags.cudnn_sdp_enabled() == enabled
        with pytest.raises(KeyError), without_cudnn(types.SimpleNamespace(is_cuda=True)):
            assert not flags.cudnn_sdp_enabled()
            raise KeyError
        assert flags.cudnn_sdp_enabled() == enabled
    finally:
        flags.enable_cudnn_sdp(before)

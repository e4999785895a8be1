"""Several frames from each state of the source."""

import pytest
import torch

from fairseq_nart.layers.splitting import StateSplitting


def test_each_state_becomes_k_adjacent_frames(device):
    split = StateSplitting(4, 3).to(device)
    states = torch.randn(2, 5, 4, device=device)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], device=device).bool()
    frames, real = split(states, mask)
    assert frames.shape == (2, 15, 4)
    assert real.sum(dim=1).tolist() == [15, 6] and real[1, :6].all()
    one = split.projection(states[1, 1]).view(3, 4)
    torch.testing.assert_close(frames[1, 3:6], one)


def test_zero_parts_are_refused():
    with pytest.raises(ValueError, match="at least 1 part, not 0"):
        StateSplitting(4, 0)

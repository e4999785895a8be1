"""Decoder inputs in small examples, with padding on either side."""

import pytest
import torch

from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.source_map import PadInput, build_source_map
from fairseq_nart.layers.states import EncoderStates


def states(lengths, width, side, device):
    """Embeddings whose first number is 10 x (position + 1) on real tokens and junk at padding."""
    embeddings = torch.full((len(lengths), width, 2), -999.0)
    mask = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, length in enumerate(lengths):
        first = width - length if side == "left" else 0
        mask[row, first : first + length] = True
        embeddings[row, first : first + length, 0] = 10.0 * torch.arange(1, length + 1)
        embeddings[row, first : first + length, 1] = 1.0
    embeddings, mask = embeddings.to(device), mask.to(device)
    return EncoderStates(embeddings, embeddings, mask, mask.long())


@pytest.mark.parametrize("side", ["left", "right"])
def test_hard_copy_in_an_example(side, device):
    source = states([3, 5, 2], 5, side, device)
    mask = length_mask(torch.tensor([6, 1, 5], device=device), 6)
    copied = build_source_map("hard_uniform", 2)(source, mask)[..., 0].tolist()
    assert copied[0] == [10, 20, 20, 30, 30, 30]  # round(i / 2), ties up, last token at most
    assert copied[1][0] == 10
    assert copied[2][:5] == [10, 10, 20, 20, 20]


@pytest.mark.parametrize("name", ["hard_uniform", "soft_uniform", "pad"])
def test_padding_side_does_not_matter(name, device):
    torch.manual_seed(0)
    source_map = build_source_map(name, 2).to(device)
    mask = length_mask(torch.tensor([6, 1, 5], device=device), 6)
    left, right = (source_map(states([3, 5, 1], 5, s, device), mask) for s in ("left", "right"))
    torch.testing.assert_close(left, right)
    assert (left.abs() < 100).all(), "padding was copied"


def test_soft_copy_is_a_weighted_mean(device):
    source = states([3], 4, "left", device)
    soft = build_source_map("soft_uniform", 2)(source, length_mask(torch.tensor([3]), 3).to(device))
    torch.testing.assert_close(soft[..., 1], torch.ones_like(soft[..., 1]))  # weights sum to one
    weights = torch.softmax(-torch.tensor([0.0, 1.0, 4.0]) / 0.3, dim=0)
    expected = (weights * torch.tensor([10.0, 20.0, 30.0])).sum().item()
    assert soft[0, 0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_pad_input_marks_the_last_position(device):
    pads = PadInput(2).to(device)
    mask = length_mask(torch.tensor([3, 1], device=device), 3)
    x = pads(states([2, 2], 2, "right", device), mask)
    place, end = pads.placeholder
    assert torch.equal(x[0], torch.stack([place, place, end]))
    assert torch.equal(x[1, 0], end)

"""Fertilities in small examples: copies, modes, samples and limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_nart.layers import fertility
from fairseq_nart.layers.fertility import CLASSES
from fairseq_nart.layers.source_map import copied
from fairseq_nart.layers.states import EncoderStates


def logits_of(*rows):
    """(1,S,L) whose softmax gives each token the probabilities {fertility: p} of a row."""
    logits = torch.full((1, len(rows), CLASSES), float("-inf"))
    for place, row in enumerate(rows):
        for value, p in row.items():
            logits[0, place, value] = math.log(p)
    return logits


@pytest.mark.parametrize("side", ["left", "right"])
def test_copy_index_in_an_example(side, device):
    """a b c with fertilities 2 0 3 is a a c c c."""
    real = [[10.0, 20, 30], [10, 20, 0]]
    counts, mask = [[2, 0, 3], [1, 1, 0]], [[1, 1, 1], [1, 1, 0]]
    if side == "left":
        real[1], counts[1], mask[1] = [0, 10, 20], [0, 1, 1], [0, 1, 1]
    embeddings = torch.tensor(real, device=device)[..., None]
    mask = torch.tensor(mask, device=device)
    source = EncoderStates(embeddings, embeddings, mask.bool(), mask)
    index = fertility.copy_index(torch.tensor(counts, device=device), 5)
    actual = copied(source, index)[..., 0].tolist()
    assert actual[0] == [10, 10, 30, 30, 30] and actual[1][:2] == [10, 20]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_copy_index_is_monotone_and_matches_fertilities(counts):
    total = sum(counts)
    index = fertility.copy_index(torch.tensor([counts]), total + 3)[0]
    assert (index.diff() >= 0).all() and index.max() < len(counts)
    assert index[:total].bincount(minlength=len(counts)).tolist() == counts


def test_modes_in_an_example(device):
    logits = logits_of({0: 0.4, 1: 0.3, 4: 0.3}, {49: 1.0}, {2: 0.5, 7: 0.5 - 1e-3, 3: 1e-3})
    logits = logits.to(device)
    assert fertility.most_probable(logits).tolist() == [[0, 49, 2]]
    # The averages are 1.5, which is rounded to even, 49 and 4.496.
    assert fertility.average(logits).tolist() == [[2, 49, 4]]


def test_samples_follow_the_softmax(device):
    rows = {0: 0.5, 1: 0.3, 2: 0.2}, {3: 0.9, 49: 0.1}
    logits, mask = logits_of(*rows).to(device), torch.ones(1, 2, dtype=torch.bool, device=device)
    count = 2000
    samples = fertility.sample(logits, mask, count)[0].cpu()  # (count,2)
    for place, row in enumerate(rows):
        shares = samples[:, place].bincount(minlength=CLASSES) / count
        for value, p in row.items():
            assert abs(shares[value] - p) < 4 * math.sqrt(p * (1 - p) / count)
    # The tokens are independent of each other.
    both = ((samples[:, 0] == 0) & (samples[:, 1] == 3)).double().mean()
    assert abs(both - 0.45) < 4 * math.sqrt(0.45 * 0.55 / count)


def test_samples_depend_only_on_position_and_number(device):
    """Not on padding or its side, the rest of the batch or the number of samples."""
    torch.manual_seed(0)
    logits = torch.randn(3, 70, CLASSES, device=device)  # beyond one block of noise
    mask = torch.ones(3, 70, dtype=torch.bool, device=device)
    mask[1, :60] = False  # padded on the left
    mask[2, 10:] = False
    logits[2, :10] = logits[1, 60:]
    samples = fertility.sample(logits, mask, 5)
    assert torch.equal(samples[1, :, 60:], samples[2, :, :10])
    assert torch.equal(fertility.sample(logits, mask, 2), samples[:, :2])
    alone = fertility.sample(logits[1:2, 60:], mask[1:2, 60:], 5)
    assert torch.equal(alone[0], samples[1, :, 60:])
    assert len({tuple(one) for one in samples[0].tolist()}) == 5


def test_make_valid_in_an_example(device):
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]], device=device).bool()
    counts = [[[7, 5, 5, 2], [9, 0, 0, 0]], [[3, 3, 3, 3], [0, 49, 1, 1]]]
    valid = fertility.make_valid(torch.tensor(counts, device=device), mask, longest=7).tolist()
    assert valid[0] == [[0, 5, 1, 0], [0, 0, 0, 1]]  # padding has none, and targets are not empty
    assert valid[1] == [[3, 3, 1, 0], [0, 7, 0, 0]]  # limited by the longest target
    valid = fertility.make_valid(torch.tensor(counts, device=device), mask, longest=99).tolist()
    assert valid[1] == [[3, 3, 2, 0], [0, 8, 0, 0]]  # limited to twice the source


def test_log_likelihood_in_an_example(device):
    """Padding is ignored, and larger fertilities count as the largest class."""
    logits = logits_of({1: 0.5, 0: 0.5}, {49: 0.25, 3: 0.75}).to(device)
    mask = torch.ones(1, 2, dtype=torch.bool, device=device)
    for counts, expected in (([1, 3], 0.375), ([0, 60], 0.125)):
        actual = fertility.log_likelihood(logits, torch.tensor([counts], device=device), mask)
        assert actual.exp().item() == pytest.approx(expected)
    mask[0, 1] = False
    actual = fertility.log_likelihood(logits, torch.tensor([[1, 0]], device=device), mask)
    assert actual.exp().item() == pytest.approx(0.5)

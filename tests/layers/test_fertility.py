"""Fertilities by hand: copies, modes, draws, limits; padding on either side."""

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
def test_copy_by_hand(side, device):
    """a b c with fertilities 2 0 3 is a a c c c."""
    real = [[10.0, 20, 30], [10, 20, 0]]
    counts, mask = [[2, 0, 3], [1, 1, 0]], [[1, 1, 1], [1, 1, 0]]
    if side == "left":
        real[1], counts[1], mask[1] = [0, 10, 20], [0, 1, 1], [0, 1, 1]
    embeddings = torch.tensor(real, device=device)[..., None]
    mask = torch.tensor(mask, device=device)
    source = EncoderStates(embeddings, embeddings, mask.bool(), mask)
    index = fertility.copy_index(torch.tensor(counts, device=device), 5)
    found = copied(source, index)[..., 0].tolist()
    assert found[0] == [10, 10, 30, 30, 30] and found[1][:2] == [10, 20]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_index_is_monotone_and_counts_are_the_fertilities(counts):
    total = sum(counts)
    index = fertility.copy_index(torch.tensor([counts]), total + 3)[0]
    assert (index.diff() >= 0).all() and index.max() < len(counts)
    assert index[:total].bincount(minlength=len(counts)).tolist() == counts


def test_modes_on_a_softmax_by_hand(device):
    logits = logits_of({0: 0.4, 1: 0.3, 4: 0.3}, {49: 1.0}, {2: 0.5, 7: 0.5 - 1e-3, 3: 1e-3})
    logits = logits.to(device)
    assert fertility.most_probable(logits).tolist() == [[0, 49, 2]]
    assert fertility.average(logits).tolist() == [[2, 49, 4]]  # 1.5 - at a tie to even -, 49, 4.496


def test_draws_follow_the_softmax(device):
    rows = {0: 0.5, 1: 0.3, 2: 0.2}, {3: 0.9, 49: 0.1}
    logits, mask = logits_of(*rows).to(device), torch.ones(1, 2, dtype=torch.bool, device=device)
    count = 2000
    drawn = fertility.sample(logits, mask, count)[0].cpu()  # (count,2)
    for place, row in enumerate(rows):
        shares = drawn[:, place].bincount(minlength=CLASSES) / count
        for value, p in row.items():
            assert abs(shares[value] - p) < 4 * math.sqrt(p * (1 - p) / count)
    both = ((drawn[:, 0] == 0) & (drawn[:, 1] == 3)).double().mean()  # independent of each other
    assert abs(both - 0.45) < 4 * math.sqrt(0.45 * 0.55 / count)


def test_draws_depend_on_place_and_number_alone(device):
    """Not on padding, its side, what else is in the batch or how many are drawn."""
    torch.manual_seed(0)
    logits = torch.randn(3, 70, CLASSES, device=device)  # beyond one block of noise
    mask = torch.ones(3, 70, dtype=torch.bool, device=device)
    mask[1, :60] = False  # padded on the left
    mask[2, 10:] = False
    logits[2, :10] = logits[1, 60:]
    drawn = fertility.sample(logits, mask, 5)
    assert torch.equal(drawn[1, :, 60:], drawn[2, :, :10])
    assert torch.equal(fertility.sample(logits, mask, 2), drawn[:, :2])
    alone = fertility.sample(logits[1:2, 60:], mask[1:2, 60:], 5)
    assert torch.equal(alone[0], drawn[1, :, 60:])
    assert len({tuple(one) for one in drawn[0].tolist()}) == 5


def test_settled_fertilities_by_hand(device):
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]], device=device).bool()
    asked = [[[7, 5, 5, 2], [9, 0, 0, 0]], [[3, 3, 3, 3], [0, 49, 1, 1]]]
    settled = fertility.make_valid(torch.tensor(asked, device=device), mask, longest=7).tolist()
    assert settled[0] == [[0, 5, 1, 0], [0, 0, 0, 1]]  # padding counts nothing; never nothing
    assert settled[1] == [[3, 3, 1, 0], [0, 7, 0, 0]]  # the longest target
    settled = fertility.make_valid(torch.tensor(asked, device=device), mask, longest=99).tolist()
    assert settled[1] == [[3, 3, 2, 0], [0, 8, 0, 0]]  # twice the source


def test_likelihood_of_fertilities(device):
    """Padding counts nothing, and what is beyond the largest class counts as it."""
    logits = logits_of({1: 0.5, 0: 0.5}, {49: 0.25, 3: 0.75}).to(device)
    mask = torch.ones(1, 2, dtype=torch.bool, device=device)
    for counts, expected in (([1, 3], 0.375), ([0, 60], 0.125)):
        found = fertility.log_likelihood(logits, torch.tensor([counts], device=device), mask)
        assert found.exp().item() == pytest.approx(expected)
    mask[0, 1] = False
    found = fertility.log_likelihood(logits, torch.tensor([[1, 0]], device=device), mask)
    assert found.exp().item() == pytest.approx(0.5)

"""The choice of masked positions."""

import torch

from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.masking import lowest, random_positions


def test_lowest_in_an_example(device):
    keys = torch.tensor([[-1.0, -9.0, -5.0, -20.0], [0.0, 0.0, 0.0, 0.0]], device=device)
    mask = length_mask(torch.tensor([3, 4], device=device), 4)
    count = torch.tensor([2, 1], device=device)
    expected = [[False, True, True, False], [True, False, False, False]]
    assert lowest(keys, mask, count).tolist() == expected
    assert not lowest(keys, mask, 0 * count).any()
    assert torch.equal(lowest(keys, mask, count + 9), mask)


def test_random_positions_depend_on_the_seed(device):
    mask = length_mask(torch.tensor([7] * 20, device=device), 7)
    first, *others = (random_positions(mask, seed) for seed in (1, 1, 2))
    assert torch.equal(first, others[0]) and not torch.equal(first, others[1])
    assert not torch.equal(random_positions(mask), random_positions(mask))


def test_random_positions_are_uniform_in_number_and_place(device):
    torch.manual_seed(0)
    lengths = torch.tensor([1, 4, 7] * 2000, device=device)
    mask = length_mask(lengths, 7)
    chosen = random_positions(mask)
    assert not (chosen & ~mask).any()
    for length in (1, 4, 7):
        rows = chosen[lengths == length]
        counts = rows.sum(dim=1).bincount(minlength=length + 1) / 2000
        expected = torch.full((length + 1,), 1 / length, device=device)
        expected[0] = 0
        torch.testing.assert_close(counts, expected, rtol=0, atol=0.04)
        share = rows[:, :length].float().mean(dim=0)  # (length + 1) / 2 positions on average
        expected = torch.full((length,), (length + 1) / 2 / length, device=device)
        torch.testing.assert_close(share, expected, rtol=0, atol=0.04)

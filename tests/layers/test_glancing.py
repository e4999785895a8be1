"""How many positions glancing reveals, which ones, and when."""

import pytest
import torch

from fairseq_nart.layers.glancing import Glancing
from fairseq_nart.layers.lengths import length_mask


def test_ratio_changes_over_the_training():
    glancing = Glancing(0.5, 0.3, updates=200)
    ratios = []
    for update in (0, 100, 200, 300):
        glancing.set_num_updates(update)
        ratios.append(glancing.ratio)
    assert ratios == pytest.approx([0.5, 0.4, 0.3, 0.3])


def test_active_only_in_training():
    assert Glancing(0.5, 0.3, 9).active and not Glancing(0.5, 0.3, 9).eval().active
    falling = Glancing(0.5, 0.0, updates=9)
    falling.set_num_updates(9)
    assert not falling.active


def test_number_of_revealed_positions(device):
    mask = length_mask(torch.tensor([8, 5, 1, 6], device=device), 8)
    wrong = length_mask(torch.tensor([7, 5, 1, 0], device=device), 8)
    for ratio, expected in ((0.5, [3, 2, 0, 0]), (1.0, [7, 4, 0, 0])):
        revealed = Glancing(ratio, ratio, 0).reveal(wrong, mask)
        assert revealed.sum(dim=1).tolist() == expected and not (revealed & ~mask).any()


def test_poisson_has_the_same_mean(device):
    torch.manual_seed(0)
    mask = length_mask(torch.full((4000,), 40, device=device), 41)
    glancing = Glancing(0.5, 0.5, 0)
    with glancing.first_pass(mask.device):
        pass
    revealed = glancing.reveal(mask & (torch.arange(41, device=device) < 12), mask, poisson=True)
    counts = revealed.sum(dim=1).double()
    assert counts.mean().item() == pytest.approx(6, abs=0.15)
    assert counts.var().item() == pytest.approx(6, abs=0.6)
    places = revealed.sum(dim=0) / revealed.sum()
    torch.testing.assert_close(places[:40], torch.full_like(places[:40], 1 / 40), atol=4e-3, rtol=0)


def test_passes_share_their_random_numbers_and_steps_do_not(device):
    torch.manual_seed(0)
    glancing, mask = Glancing(0.5, 0.5, 0), torch.ones(50, 9, dtype=torch.bool, device=device)
    chosen = []
    for _ in range(2):
        with glancing.first_pass(mask.device):
            assert not torch.is_grad_enabled()
            first = torch.rand(5, device=device)
        chosen.append(glancing.reveal(mask, mask))
        assert torch.equal(first, torch.rand(5, device=device))
    assert not torch.equal(*chosen)

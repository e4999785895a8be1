"""Corruption of references: how many words, in which way, and no special symbols."""

import pytest
import torch

from fairseq_nart.layers import corruption
from fairseq_nart.layers.corruption import corrupt

EOS, PAD, FIRST = 2, 1, 100


def references(words, device):
    """Rows with these numbers of distinct words below FIRST, EOS and padding; the words' mask."""
    rows = torch.full((len(words), max(words) + 2), PAD, device=device)
    for row, count in enumerate(words):
        rows[row, :count] = torch.arange(10, 10 + count)
        rows[row, count] = EOS
    return rows, (rows >= 10)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_share_of_words_is_corrupted_and_at_least_one(share, device, monkeypatch):
    def only_replace(high, *rest):
        return torch.full(
            rest[-1] if high != 3 else rest[0], corruption.REPLACE + FIRST * (high != 3)
        )

    lengths = [0, 1, 2, 3, 7, 10, 11]
    tokens, words = references(lengths, torch.device("cpu"))
    monkeypatch.setattr(corruption.torch, "randint", lambda *a, **k: only_replace(*a))
    changed = corrupt(tokens, words, share, FIRST, 200) != tokens
    expected = [min(n, max(1, int(share * n))) for n in lengths]
    assert changed.sum(dim=1).tolist() == expected


def test_kinds_have_equal_probability(device):
    """One of ten words is picked. The last one has no successor, so it is always replaced."""
    torch.manual_seed(0)
    tokens, words = references([10] * 6000, device)
    corrupted = corrupt(tokens, words, 0.1, FIRST, 200)
    changed = (corrupted != tokens).sum(dim=1)
    replaced = (corrupted >= FIRST).any(dim=1)
    swapped = (changed == 2) & (corrupted.sort(dim=1).values == tokens.sort(dim=1).values).all(
        dim=1
    )
    doubled = (changed == 1) & ((corrupted[:, 1:] == corrupted[:, :-1]) & words[:, 1:]).any(dim=1)
    assert (replaced.int() + swapped.int() + doubled.int() == 1).all()
    for kind, expected in ((replaced, 0.4), (swapped, 0.3), (doubled, 0.3)):
        assert kind.double().mean().item() == pytest.approx(expected, abs=0.03)
    picked = (corrupted >= FIRST).double().sum(dim=0) / 6000  # 0.1 x 1/3 each, the last 0.1
    torch.testing.assert_close(
        picked[:9].cpu(), torch.full((9,), 1 / 30).double(), rtol=0, atol=0.01
    )


def test_special_symbols_are_neither_changed_nor_added(device):
    torch.manual_seed(0)
    tokens, words = references([0, 1, 2, 9, 20] * 20, device)
    for share in (0.1, 0.9, 1.0):
        corrupted = corrupt(tokens, words, share, 4, 200)
        assert corrupted.shape == tokens.shape
        assert torch.equal(corrupted[~words], tokens[~words])
        assert (corrupted[words] >= 4).all() and (corrupted[words] < 200).all()
        assert (corrupted != tokens).any()
    assert torch.equal(tokens, references([0, 1, 2, 9, 20] * 20, device)[0]), (
        "the input was changed"
    )

"""The candidates are the k best tokens, and the required one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_nart.crf.candidates import top_candidates


@settings(max_examples=60, deadline=None)
@given(
    vocab_size=st.integers(1, 9),
    k=st.integers(1, 10),
    ties=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_top_candidates(
    device: torch.device, vocab_size: int, k: int, ties: bool, seed: int
) -> None:
    noise = torch.Generator().manual_seed(seed)
    emissions = torch.randn(2, 3, vocab_size, generator=noise)
    emissions = (emissions.round() if ties else emissions).to(device).requires_grad_()
    include = torch.randint(vocab_size, (2, 3), generator=noise).to(device)
    count = min(k, vocab_size)
    free, forced = top_candidates(emissions, k), top_candidates(emissions, k, include)
    best = emissions.sort(dim=2, descending=True).values[:, :, :count]
    for ids in (free, forced):
        assert ids.shape == (2, 3, count) and not ids.requires_grad
        assert all(len(set(row)) == count for row in ids.flatten(0, 1).tolist())
    # ids of equal scores may be chosen in any order, their scores not
    assert torch.equal(emissions.gather(2, free).sort(dim=2, descending=True).values, best)
    assert (forced == include.unsqueeze(2)).any(dim=2).all()
    scores = emissions.gather(2, forced).sort(dim=2, descending=True).values
    assert torch.equal(scores[:, :, :-1], best[:, :, :-1])
    inside = emissions.gather(2, include.unsqueeze(2)).squeeze(2) >= best[:, :, -1]
    assert torch.equal(scores[:, :, -1][inside], best[:, :, -1][inside])


def test_no_value_is_read_on_other_devices() -> None:
    """It would make the host wait for the device. Meta tensors have no values: reading raises."""
    include = torch.zeros(2, 3, dtype=torch.int64, device="meta")
    assert top_candidates(torch.zeros(2, 3, 9, device="meta"), 4, include).shape == (2, 3, 4)


def test_error_messages() -> None:
    emissions, include = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="k: expected at least 1, found 0"):
        top_candidates(emissions, 0)
    with pytest.raises(ValueError, match=r"emissions: expected shape .*, found \(3, 4\)"):
        top_candidates(emissions[0], 1)
    with pytest.raises(ValueError, match=r"include: expected shape \(2, 3\), found \(2, 2\)"):
        top_candidates(emissions, 1, include[:, 1:])
    with pytest.raises(ValueError, match=r"include: expected torch\.int64, found torch\.float32"):
        top_candidates(emissions, 1, include.float())
    with pytest.raises(ValueError, match="include: expected on cpu, found meta"):
        top_candidates(emissions, 1, include.to("meta"))
    for outside in (-1, 4):
        with pytest.raises(ValueError, match=r"include: expected ids in 0..3"):
            top_candidates(emissions, 1, include + outside)

"""The methods of a lattice equal the chain's functions; slots and tokens convert both ways."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from fairseq_nart.crf import Lattice, chain


@pytest.fixture
def lattice(device: torch.device) -> Lattice:
    """B = 2 sentences of T = 4 and 2 positions, with K = 3 candidates."""
    noise = torch.Generator().manual_seed(0)
    ids = torch.rand(2, 4, 9, generator=noise).argsort(dim=2)[:, :, :3]
    emissions = torch.randn(2, 4, 3, generator=noise)
    transitions = torch.randn(2, 3, 3, 3, generator=noise)
    mask = torch.arange(4) < torch.tensor([[4], [2]])
    return Lattice(*(x.to(device) for x in (ids, emissions, transitions, mask)))


def test_methods_equal_the_chain(lattice: Lattice) -> None:
    scores = (lattice.emissions, lattice.transitions)
    path = lattice.best_path()[1]
    for actual, expected in (
        (lattice.best_path(), chain.best_path(*scores, lattice.mask)),
        (lattice.k_best(2), chain.k_best(*scores, lattice.mask, 2)),
        (lattice.marginals(), chain.marginals(*scores, lattice.mask)),
        (lattice.log_partition(), chain.log_partition(*scores, lattice.mask)),
        (lattice.log_likelihood(path), chain.log_likelihood(*scores, path, lattice.mask)),
        (lattice.log_probs(path), chain.path_log_probs(*scores, path, lattice.mask)),
    ):
        assert_close(actual, expected, rtol=0, atol=0)


def test_samples_are_repeatable(lattice: Lattice) -> None:
    device = lattice.emissions.device
    one, same = (lattice.sample(50, torch.Generator(device).manual_seed(1)) for _ in range(2))
    assert one.shape == (2, 50, 4) and torch.equal(one, same)
    assert not torch.equal(one, lattice.sample(50))


def test_tokens_and_slots(lattice: Lattice) -> None:
    several = lattice.sample(5)
    tokens = lattice.tokens(several)
    for row, length in ((0, 4), (1, 2)):
        for path, words in zip(several[row].tolist(), tokens[row].tolist()):
            expected = [int(lattice.ids[row, i, slot]) for i, slot in enumerate(path[:length])]
            assert words == [*expected, *[0] * (4 - length)]
    assert torch.equal(lattice.tokens(several[:, 0]), tokens[:, 0])
    slots = lattice.path_of(tokens[:, 0])
    assert torch.equal(slots[lattice.mask], several[:, 0][lattice.mask])
    expected = torch.stack([lattice.log_probs(path) for path in several.unbind(1)], dim=1)
    assert torch.equal(lattice.log_probs(several), expected)

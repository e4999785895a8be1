"""Stopping rules on hand-written outputs."""

import pytest
import torch

from fairseq_nart.generation.stopping import STOPPING_RULES, RefinementStop

A, B, C, D, E = (list(word) for word in ([1, 2, 3], [1, 2, 4], [1, 2, 5], [1, 2, 6], [3, 2, 1]))


@pytest.mark.parametrize(
    "outputs, ended_by",
    [
        ([A], []),
        ([A, A], ["unchanged"]),
        ([A, B], []),
        ([A, A, A, A], ["unchanged"]),
        ([A, A, A, A, A], ["equality", "jaccard", "unchanged"]),
        ([A, B, C, D, A], ["equality", "jaccard"]),
        ([A, B, A, C, D], ["equality", "jaccard"]),
        ([A, B, C, D, E], ["jaccard"]),
        ([D, A, B, B, B], ["unchanged"]),
        ([A, D, B, A, C, C], ["unchanged"]),
        ([D, A, B, C, A, B], ["equality", "jaccard"]),
    ],
)
def test_rules_stop_as_defined(outputs, ended_by, device):
    mask = torch.ones(1, 3, dtype=torch.bool, device=device)
    for name in ("equality", "jaccard", "unchanged"):
        ended = STOPPING_RULES[name].ended(torch.tensor([outputs], device=device), mask)
        assert ended.tolist() == [name in ended_by], name


def test_padding_is_not_compared(device):
    outputs = torch.tensor([[[1, 2, 3], [1, 2, 9]]] * 2, device=device)
    mask = torch.tensor([[True, True, False], [True, True, True]], device=device)
    assert STOPPING_RULES["unchanged"].ended(outputs, mask).tolist() == [True, False]


def test_every_option_has_a_rule():
    assert set(STOPPING_RULES) == set(RefinementStop) and STOPPING_RULES["none"] is None

"""CTC decoding equals `fairseq_nart.ctc.search` and the enumeration of all paths."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_nart.ctc import search
from fairseq_nart.runtime import ctc

few = settings(max_examples=40, deadline=None)


@st.composite
def frames(draw, labels=4, most=6):
    """Log-probabilities (B,F,V+1) and mask (B,F), real frames first."""
    lengths = draw(st.lists(st.integers(1, most), min_size=1, max_size=3))
    scale = draw(st.sampled_from([1.0, 4.0]))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    logits = scale * torch.randn(len(lengths), max(lengths), labels + 1, generator=noise)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return logits.log_softmax(dim=2), mask


def collapsed(path, blank):
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


@few
@given(frames())
def test_best_path_equals_the_plugin(problem):
    log_probs, mask = problem
    scores, path = log_probs.max(dim=2)
    blank = log_probs.size(2) - 1
    found = ctc.best_path(path.numpy(), scores.numpy(), mask.numpy(), blank)
    tokens, lengths, spread = search.best_path(log_probs, mask)
    assert found[1].tolist() == lengths.tolist()
    for row, end in enumerate(lengths.tolist()):
        assert found[0][row, :end].tolist() == tokens[row, :end].tolist()
        expected = collapsed(path[row][mask[row]].tolist(), blank)
        assert tuple(found[0][row, :end].tolist()) == expected
    np.testing.assert_allclose(found[2], spread.numpy(), atol=1e-5)


@few
@given(frames(), st.integers(1, 5))
def test_beam_search_equals_the_plugin(problem, beam):
    log_probs, mask = problem
    found = ctc.prefix_beam_search(log_probs.numpy(), mask.numpy(), beam)
    expected = search.prefix_beam_search(log_probs, mask, beam)
    np.testing.assert_allclose(found[2], expected[2].numpy(), rtol=1e-4, atol=1e-4)
    exists = np.isfinite(found[2])
    assert found[1][exists].tolist() == expected[1].numpy()[exists].tolist()
    for row, place in zip(*exists.nonzero(), strict=True):
        end = found[1][row, place]
        assert found[0][row, place, :end].tolist() == expected[0][row, place, :end].tolist()


@few
@given(frames(labels=2, most=5))
def test_a_large_beam_equals_enumeration(problem):
    log_probs, mask = problem
    tokens, lengths, scores = ctc.prefix_beam_search(log_probs.numpy(), mask.numpy(), 100)
    for row, count in enumerate(mask.sum(dim=1).tolist()):
        expected = defaultdict(list)
        for path in itertools.product(range(3), repeat=count):
            score = sum(log_probs[row, frame, token].item() for frame, token in enumerate(path))
            expected[collapsed(path, 2)].append(score)
        expected = {said: math.log(sum(map(math.exp, x))) for said, x in expected.items()}
        found = {
            tuple(tokens[row, place, : lengths[row, place]].tolist()): scores[row, place].item()
            for place in np.isfinite(scores[row]).nonzero()[0]
        }
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert (np.diff(scores[row][np.isfinite(scores[row])]) <= 0).all()


def test_impossible_tokens_are_never_said():
    """A graph gives special symbols -inf, and a beam may be wider than the other symbols."""
    log_probs = np.full((1, 3, 5), -np.inf, np.float32)
    log_probs[..., [2, 4]] = math.log(0.5)
    tokens, lengths, scores = ctc.prefix_beam_search(log_probs, np.ones((1, 3), bool), 30)
    said = {tuple(tokens[0, i, : lengths[0, i]]) for i in np.isfinite(scores[0]).nonzero()[0]}
    assert said == {(), (2,), (2, 2)}

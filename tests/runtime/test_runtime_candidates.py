"""Cleaning and ranking equal `fairseq_nart.generation`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_nart.generation import clean
from fairseq_nart.generation.normalization import normalize
from fairseq_nart.generation.ranking import Ranking, ScoredPass
from fairseq_nart.runtime.candidates import Cleaning, Hypothesis, distinct, finish
from fairseq_nart.runtime.states import Decoded

PAD, EOS = 1, 2


@given(
    st.lists(st.lists(st.integers(2, 6), min_size=1, max_size=7), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([5, EOS]),  # an arbitrary value at padding
    st.integers(1, 9),
    st.sampled_from(["sum", "mean"]),
)
def test_finish_equals_the_plugin(lines, dedup, filler, longest, rule):
    width = max(map(len, lines))
    tokens = torch.tensor([line + [filler] * (width - len(line)) for line in lines])
    mask = torch.tensor([[i < len(line) for i in range(width)] for line in lines])
    log_probs = -torch.arange(1.0, tokens.numel() + 1).view_as(tokens)
    empty = torch.arange(len(lines)) == 1
    exists = torch.arange(len(lines)) != 2
    decoded = Decoded(tokens.numpy(), log_probs.numpy(), mask.numpy(), exists.numpy()[:, None], 3)
    results = finish(decoded, empty.tolist(), Cleaning(EOS, longest, dedup, rule))
    tokens = tokens.masked_fill(empty[:, None], EOS)
    expected = clean.finish(tokens, log_probs, mask, EOS, PAD, dedup, longest)
    scores = normalize(expected.log_probs.sum(dim=1), expected.mask.sum(dim=1), rule, alpha=0.0)
    for row, hypotheses in enumerate(results):
        assert len(hypotheses) == int(exists[row])
        for one in hypotheses:
            assert one.tokens == expected.tokens[row][expected.mask[row]].tolist()
            assert one.score == pytest.approx(float(scores[row]), rel=1e-6)
            assert one.iterations == 3


def row_of(length):
    """One of three outputs of `length` tokens."""
    words = st.sampled_from([[5, 6], [6, 5], [5, 5]])
    return words.map(lambda pair: [*(pair * length)[: length - 1], EOS])


@given(
    st.lists(
        st.tuples(st.integers(1, 4).flatmap(row_of), st.sampled_from([-np.inf, -2.0, -1.0, 0.0])),
        min_size=6,
        max_size=6,
    ),
    st.sampled_from([None, 1, 2]),
)
def test_distinct_equals_the_plugin(rows, most):
    """Three candidates of two sentences: equal ones once, of equal scores the first."""
    tokens = torch.full((6, 4), PAD)
    for row, (words, _) in enumerate(rows):
        tokens[row, : len(words)] = torch.tensor(words)
    scores = torch.tensor([score for _, score in rows]).view(2, 3)
    ranking = Ranking(most, "")
    candidates = clean.Candidates(tokens, tokens != PAD, torch.zeros(6, 4))
    ranking.add(2, [ScoredPass([0, 1, 2], candidates, scores, torch.arange(6).view(2, 3))])
    for start, expected in zip((0, 3), ranking.sentences, strict=True):
        some = enumerate(rows[start : start + 3], start)
        ours = [Hypothesis(words, score, row) for row, (words, score) in some if score > -np.inf]
        results = [(one.tokens, one.score, one.iterations) for one in distinct(ours)[:most]]
        assert results == [(x.tokens.tolist(), x.score, x.iterations) for x in expected]

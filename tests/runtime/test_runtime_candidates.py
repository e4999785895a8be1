"""Cleaning and ranking equal `fairseq_nart.generation`."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_nart.generation import clean
from fairseq_nart.generation.normalization import normalize
from fairseq_nart.generation.ranking import Ranking, ScoredPass
from fairseq_nart.runtime.candidates import Candidates, finish, rank
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
    found = finish(
        decoded, rule, eos=EOS, pad=PAD, dedup=dedup, longest=longest, empty=empty.numpy()
    )
    tokens = tokens.masked_fill(empty[:, None], EOS)
    expected = clean.finish(tokens, log_probs, mask, EOS, PAD, dedup, longest)
    scores = normalize(expected.log_probs.sum(dim=1), expected.mask.sum(dim=1), rule, alpha=0.0)
    scores = scores.masked_fill(~exists, float("-inf"))
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert found.mask.tolist() == expected.mask.tolist()
    assert found.log_probs.tolist() == expected.log_probs.tolist()
    np.testing.assert_allclose(found.scores, scores.numpy(), rtol=1e-6)
    assert found.iterations.tolist() == [3] * len(lines)


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
def test_rank_equals_the_plugin(rows, most):
    """Three candidates of two sentences: equal ones once, of equal scores the first."""
    tokens = np.full((6, 4), PAD)
    for row, (words, _) in enumerate(rows):
        tokens[row, : len(words)] = words
    scores = np.array([score for _, score in rows])
    zeros, passes = np.zeros((6, 4), np.float32), np.arange(6)
    found = rank(Candidates(tokens, tokens != PAD, zeros, scores, passes), 2, most)
    ranking = Ranking(most, "")
    every = map(torch.from_numpy, (tokens, tokens != PAD, zeros))
    per_sentence = (torch.from_numpy(x).view(2, 3) for x in (scores, passes))
    ranking.add(2, [ScoredPass([0, 1, 2], clean.Candidates(*every), *per_sentence)])
    expected = [
        [(one.tokens.tolist(), one.score, one.iterations) for one in hypotheses]
        for hypotheses in ranking.sentences
    ]
    assert [[(x.tokens, x.score, x.iterations) for x in each] for each in found] == expected

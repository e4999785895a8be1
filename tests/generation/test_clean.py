"""Cleaning, compared with a plain Python implementation on random outputs."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_nart.generation.clean import finish

PAD, EOS = 1, 2


def reference(tokens, scores, dedup, longest):
    """Tokens before the first EOS, after de-duplication, as many as fit, plus one EOS."""
    kept, kept_scores, end_score = [], [], 0.0
    for i, (token, score) in enumerate(zip(tokens, scores)):
        if token == EOS:
            end_score = score
            break
        if dedup and i and tokens[i - 1] == token:
            continue
        kept.append(token)
        kept_scores.append(score)
    limit = longest - 1
    return [*kept[:limit], EOS], [*kept_scores[:limit], end_score]


@given(
    st.lists(st.lists(st.integers(2, 6), min_size=1, max_size=7), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([5, EOS]),  # an arbitrary value at padding
    st.integers(1, 9),
)
def test_finish_equals_reference(lines, dedup, filler, longest):
    width = max(len(line) for line in lines)
    tokens = torch.tensor([line + [filler] * (width - len(line)) for line in lines])
    mask = torch.tensor([[i < len(line) for i in range(width)] for line in lines])
    scores = -torch.arange(1.0, tokens.numel() + 1).view_as(tokens)
    done = finish(tokens, scores, mask, EOS, PAD, dedup, longest)
    width = max(len(reference(line, line, dedup, longest)[0]) for line in lines)
    assert done.tokens.shape == (len(lines), width)
    for row, line in enumerate(lines):
        expected, expected_scores = reference(line, scores[row].tolist(), dedup, longest)
        end = len(expected)
        assert done.tokens[row].tolist() == expected + [PAD] * (width - end)
        assert done.mask[row].tolist() == [True] * end + [False] * (width - end)
        assert done.log_probs[row, :end].tolist() == expected_scores
        assert not done.log_probs[row, end:].any()

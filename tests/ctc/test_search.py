"""CTC's best path and prefix beam search, compared with plain Python and enumeration."""

import itertools
import math
from collections import defaultdict

import pytest
import torch
from test_loss import collapsed

from fairseq_nart.ctc.search import best_path, collapse, prefix_beam_search

V = 3


def problem(device, frames=(5, 2, 4), scale=1.0, seed=0):
    torch.manual_seed(seed)
    log_probs = (scale * torch.randn(len(frames), 5, V + 1, device=device)).log_softmax(dim=2)
    mask = torch.arange(5, device=device) < torch.tensor(frames, device=device)[:, None]
    return log_probs, mask


def outputs(log_probs):
    """{output: log-probability} of one sentence, by enumeration of all paths (F,V+1)."""
    path_scores = defaultdict(list)
    for path in itertools.product(range(V + 1), repeat=len(log_probs)):
        score = sum(log_probs[frame, token].item() for frame, token in enumerate(path))
        path_scores[tuple(collapsed(path, V))].append(score)
    return {output: math.log(sum(map(math.exp, scores))) for output, scores in path_scores.items()}


def test_collapse():
    """a a _ a b b is a a b."""
    path = torch.tensor([[0, 0, 3, 0, 1, 1, 3]])
    starts, owner = collapse(path, torch.ones_like(path, dtype=torch.bool), blank=3)
    assert path[starts].tolist() == [0, 0, 1]
    assert owner.tolist() == [[0, 0, 0, 1, 2, 2, 2]]


@pytest.mark.parametrize("seed", range(5))
def test_best_path_equals_plain_python(seed, device):
    log_probs, mask = problem(device, seed=seed)
    log_probs[0, ..., :V] -= 20  # a path of blanks alone
    tokens, lengths, scores = best_path(log_probs, mask)
    for row, frames in enumerate(mask.sum(dim=1).tolist()):
        top, end = log_probs[row, :frames].max(dim=1), int(lengths[row])
        assert tokens[row, :end].tolist() == collapsed(top.indices.tolist(), V)
        assert scores[row].sum().item() == pytest.approx(top.values.sum().item(), rel=1e-5)
        assert not scores[row, max(1, end) :].any()
    assert lengths[0] == 0 < lengths.max()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_large_beam_equals_enumeration(seed, scale, device):
    log_probs, mask = problem(device, scale=scale, seed=seed)
    tokens, lengths, scores = prefix_beam_search(log_probs, mask, 400)
    for row, frames in enumerate(mask.sum(dim=1).tolist()):
        expected = outputs(log_probs[row, :frames])
        actual = {
            tuple(tokens[row, place, :length].tolist()): scores[row, place].item()
            for place, length in enumerate(lengths[row].tolist())
            if scores[row, place] > -math.inf
        }
        assert actual == pytest.approx(expected, rel=1e-4, abs=1e-4)
        best = tuple(tokens[row, 0, : lengths[row, 0]].tolist())
        assert expected[best] == max(expected.values())


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_small_beam_has_distinct_outputs_and_lower_bounds(beam, device):
    log_probs, mask = problem(device, scale=2.0)
    tokens, lengths, scores = prefix_beam_search(log_probs, mask, beam)
    for row, frames in enumerate(mask.sum(dim=1).tolist()):
        true = outputs(log_probs[row, :frames])
        results = [tuple(tokens[row, w, : lengths[row, w]].tolist()) for w in range(beam)]
        alive = [one for one, score in zip(results, scores[row].tolist()) if score > -math.inf]
        assert len(set(alive)) == len(alive)
        for one, score in zip(alive, scores[row].tolist()):
            assert score <= true[one] + 1e-4
        assert scores[row].tolist() == sorted(scores[row].tolist(), reverse=True)


def test_beam_search_does_not_depend_on_batch(device):
    log_probs, mask = problem(device)
    tokens, _, scores = prefix_beam_search(log_probs, mask, 4)
    for row, frames in enumerate(mask.sum(dim=1).tolist()):
        one = slice(row, row + 1)
        alone = prefix_beam_search(log_probs[one, :frames], mask[one, :frames], 4)
        torch.testing.assert_close(scores[row], alone[2][0])
        for place, length in enumerate(alone[1][0].tolist()):
            if alone[2][0, place] > -math.inf:
                assert torch.equal(tokens[row, place, :length], alone[0][0, place, :length])

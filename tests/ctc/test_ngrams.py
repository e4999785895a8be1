"""Expected bigrams and their loss, compared with the enumeration of all paths."""

import itertools
from collections import Counter

import pytest
import torch

from fairseq_nart.ctc.loss import label_log_probs_and_repeats
from fairseq_nart.ctc.ngrams import bigram_loss, expected_bigrams, expected_counts

V = 3


def problem(device, seed=0):
    """Logits (B,F,V), blank (B,F), labels (B,L) with repeats, frames and lengths (B,)."""
    torch.manual_seed(seed)
    logits = 2 * torch.randn(6, 5, V, dtype=torch.double, device=device)
    blank = torch.randn(6, 5, dtype=torch.double, device=device)
    labels = [[1, 1, 1, 2], [0, 1, 0, 1], [2, 0, 9, 9], [0, 9, 9, 9], [9, 9, 9, 9], [1, 2, 0, 9]]
    frames, lengths = torch.tensor([5, 4, 5, 3, 2, 1]), torch.tensor([4, 4, 2, 1, 0, 3])
    return (
        logits,
        blank,
        torch.tensor(labels, device=device) % V,
        frames.to(device),
        lengths.to(device),
    )


def outputs(logits, blank):
    """Each output with its probability, of all paths."""
    log_probs = torch.cat([logits, blank[:, None]], dim=1).log_softmax(dim=1)
    for path in itertools.product(range(V + 1), repeat=len(logits)):
        score = sum(log_probs[frame, token] for frame, token in enumerate(path))
        yield [token for token, _ in itertools.groupby(path) if token != V], score.exp()


def bigrams(tokens):
    return Counter(itertools.pairwise(tokens))


def enumerated(logits, blank, target):
    """1 - F1, with the expectations of counts."""
    expected, number, reference = Counter(), 0.0, bigrams(target)
    for output, probability in outputs(logits, blank):
        for bigram, count in bigrams(output).items():
            expected[bigram] = expected[bigram] + count * probability
            number = number + count * probability
    matches = sum(min(count, expected[bigram]) for bigram, count in reference.items())
    return 1 - 2 * matches / (number + len(target) - 1) if len(target) > 1 else torch.zeros(())


def loss_of(logits, blank, labels, frames, lengths):
    both = label_log_probs_and_repeats(logits.clone(), blank, labels)
    return bigram_loss(*both, labels, frames, lengths)


def rows_of(logits, blank, labels, frames, lengths):
    for row, (count, length) in enumerate(zip(frames.tolist(), lengths.tolist())):
        yield logits[row, :count], blank[row, :count], labels[row, :length].tolist()


def test_expectations_equal_enumeration(device):
    logits, blank, labels, frames, lengths = problem(device)
    real = torch.arange(5, device=device) < frames[:, None]
    log_probs, repeats = label_log_probs_and_repeats(logits, blank, labels)
    counts = expected_counts(log_probs, labels, real)
    numbers = expected_bigrams(log_probs[..., 0], repeats, real)
    for row, (*scores, target) in enumerate(rows_of(logits, blank, labels, frames, lengths)):
        expected = Counter()
        for output, probability in outputs(*scores):
            for bigram, count in bigrams(output).items():
                expected[bigram] += count * probability.item()
        assert numbers[row].item() == pytest.approx(sum(expected.values()), abs=1e-9)
        for place, bigram in enumerate(itertools.pairwise(target)):
            assert counts[row, place].item() == pytest.approx(expected[bigram], abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_equal_enumeration(seed, device):
    logits, blank, *rest = problem(device, seed)
    ours = [x.clone().requires_grad_() for x in (logits, blank)]
    theirs = [x.clone().requires_grad_() for x in (logits, blank)]
    loss = loss_of(*ours, *rest)
    expected = sum(enumerated(*row) for row in rows_of(*theirs, *rest))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad)


def test_loss_of_a_certain_output(device):
    """0 for the target, also if its parts are in another order but for the joint, 1 for others."""
    labels = torch.tensor([[0, 1, 2, 0]], device=device)
    for path, expected in (
        ([0, 1, V, 2, 0, 0], 0.0),
        ([2, 0, V, 0, 1, V], 1 - 2 * 2 / 6),
        ([1, 0, 2, 1, V, V], 1.0),
        ([V, V, V, V, V, V], 1.0),
    ):
        scores = torch.full((1, 6, V + 1), -50.0, device=device)
        scores[0, torch.arange(6), path] = 50.0
        frames, lengths = torch.tensor([6], device=device), torch.tensor([4], device=device)
        loss = loss_of(scores[..., :V], scores[..., V], labels, frames, lengths)
        assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_padding_is_ignored(device):
    logits, blank, labels, frames, lengths = problem(device)
    loss = loss_of(logits, blank, labels, frames, lengths)
    for row, frame in enumerate(frames.tolist()):
        logits[row, frame:], blank[row, frame:] = 100, -100
        labels[row, lengths[row] :] = 0
    torch.testing.assert_close(loss_of(logits, blank, labels, frames, lengths), loss)

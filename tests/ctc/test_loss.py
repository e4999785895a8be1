"""CTC loss, compared with enumeration and with torch's own loss."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from fairseq_nart.ctc.loss import ctc_loss, label_log_probs

V = 4


def collapsed(path, blank):
    """Plain implementation of the rule: merge repeats, then drop blanks."""
    return [token for token, _ in itertools.groupby(path) if token != blank]


def enumerated(logits, blank, labels):
    """-log of the total probability of all paths that collapse to the labels."""
    log_probs = torch.cat([logits, blank[:, None]], dim=1).log_softmax(dim=1)
    total = [
        sum(log_probs[frame, token] for frame, token in enumerate(path))
        for path in itertools.product(range(V + 1), repeat=len(logits))
        if collapsed(path, V) == labels
    ]
    return -torch.stack(total).logsumexp(0) if total else None


def problem(device, frames=(5, 3, 4, 2), seed=0):
    """Logits (B,F,V), blank (B,F), labels (B,L) with a repeat, frames (B,), lengths (B,)."""
    torch.manual_seed(seed)
    logits = torch.randn(4, 5, V, dtype=torch.double, device=device)
    blank = torch.randn(4, 5, dtype=torch.double, device=device)
    labels = torch.tensor([[1, 1, 3], [2, 0, 9], [0, 9, 9], [9, 9, 9]], device=device) % V
    return logits, blank, labels, torch.tensor(frames), torch.tensor([3, 2, 1, 0])


def loss_of(logits, blank, labels, frames, lengths):
    device = labels.device
    log_probs = label_log_probs(logits.clone(), blank, labels)
    return ctc_loss(log_probs, labels, frames.to(device), lengths.to(device))


def test_loss_and_gradient_equal_enumeration(device):
    logits, blank, labels, frames, lengths = problem(device)
    ours = [x.clone().requires_grad_() for x in (logits, blank)]
    theirs = [x.clone().requires_grad_() for x in (logits, blank)]
    loss, too_long = loss_of(*ours, labels, frames, lengths)
    expected = sum(
        enumerated(theirs[0][row, :f], theirs[1][row, :f], labels[row, :n].tolist())
        for row, (f, n) in enumerate(zip(frames.tolist(), lengths.tolist()))
    )
    torch.testing.assert_close(loss, expected)
    assert too_long == 0
    loss.backward()
    expected.backward()
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad)


def test_loss_equals_torch(device):
    torch.manual_seed(1)
    logits, blank = torch.randn(3, 40, 500, device=device), torch.randn(3, 40, device=device)
    labels = torch.randint(500, (3, 12), device=device)
    frames, lengths = torch.tensor([40, 31, 26]), torch.tensor([12, 10, 3])
    log_probs = torch.cat([logits, blank[..., None]], dim=2).log_softmax(dim=2).transpose(0, 1)
    expected = F.ctc_loss(log_probs, labels, frames, lengths, blank=500, reduction="sum")
    torch.testing.assert_close(loss_of(logits, blank, labels, frames, lengths)[0], expected)


@pytest.mark.parametrize(
    "given, expected", [((3, 2, 1, 1), 1), ((4, 1, 1, 1), 1), ((2, 1, 1, 1), 2)]
)
def test_too_long_labels_are_counted_and_ignored(given, expected, device):
    """1 1 3 needs four frames, 2 0 two."""
    logits, blank, labels, frames, lengths = problem(device, given)
    logits.requires_grad_()
    loss, too_long = loss_of(logits, blank, labels, frames, lengths)
    assert too_long == expected and math.isfinite(loss.item())
    loss.backward()
    fits = frames >= torch.tensor([4, 2, 1, 0])
    moved = logits.grad.abs().sum(dim=(1, 2)) > 0
    assert moved.tolist() == fits.tolist()
    rows = [x[fits] for x in (logits.detach(), blank, labels, frames, lengths)]
    torch.testing.assert_close(loss.detach(), loss_of(*rows)[0])


def test_padding_is_ignored(device):
    logits, blank, labels, frames, lengths = problem(device)
    loss, _ = loss_of(logits, blank, labels, frames, lengths)
    for row, frame in enumerate(frames.tolist()):
        logits[row, frame:], blank[row, frame:] = 100, -100
        labels[row, lengths[row] :] = 0
    torch.testing.assert_close(loss_of(logits, blank, labels, frames, lengths)[0], loss)

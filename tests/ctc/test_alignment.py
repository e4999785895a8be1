"""The best alignment, compared with the enumeration of all paths."""

import itertools

import pytest
import torch

from fairseq_nart.ctc.alignment import best_alignment

V = 3


def collapsed(path, blank):
    return [token for token, _ in itertools.groupby(path) if token != blank]


@pytest.mark.parametrize("seed", range(8))
def test_best_alignment_equals_enumeration(seed, device):
    torch.manual_seed(seed)
    scores = torch.randn(5, 6, V + 1).log_softmax(dim=2)  # the blank comes last
    labels = torch.randint(V, (5, 3))
    frames, lengths = torch.tensor([6, 5, 2, 4, 1]), torch.tensor([3, 2, 3, 0, 1])
    blank_first = torch.cat(
        [scores[..., V:], scores.gather(2, labels[:, None].expand(-1, 6, -1))], 2
    )
    arguments = (x.to(device) for x in (blank_first, labels, frames, lengths))
    path, fits = (x.cpu() for x in best_alignment(*arguments))
    for row, (count, length) in enumerate(zip(frames.tolist(), lengths.tolist())):
        target = labels[row, :length].tolist()
        expected = max(
            (
                (sum(scores[row, f, x].item() for f, x in enumerate(one)), one)
                for one in itertools.product(range(V + 1), repeat=count)
                if collapsed(one, V) == target
            ),
            default=None,
        )
        assert bool(fits[row]) == (expected is not None)
        if expected:
            names = [V, *labels[row].tolist()]
            assert tuple(names[x] for x in path[row, :count].tolist()) == expected[1]


def test_label_of_each_frame_is_its_own(device):
    """Equal labels of a target have different columns."""
    labels = torch.tensor([[1, 1]], device=device)
    log_probs = torch.zeros(1, 3, 3, device=device)
    path, fits = best_alignment(
        log_probs, labels, torch.tensor([3], device=device), torch.tensor([2], device=device)
    )
    assert path.tolist() == [[1, 0, 2]] and fits.all()

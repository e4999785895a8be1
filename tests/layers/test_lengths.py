"""Length rules and candidate windows."""

import torch

from fairseq_nart.layers.lengths import (
    LengthClassifier,
    OffsetLength,
    RatioLength,
    candidate_window,
    length_mask,
)
from fairseq_nart.layers.states import EncoderStates


def states(lengths, device, dim=4):
    mask = length_mask(torch.tensor(lengths, device=device), max(lengths))
    x = torch.randn(*mask.shape, dim, device=device)
    return EncoderStates(x, x, mask, mask.long())


def test_offset_is_the_rounded_mean_and_is_saved(device):
    rule = OffsetLength().to(device)
    message = rule.fit(torch.tensor([3, 5, 7]), torch.tensor([5, 6, 9]))
    assert rule.offset.item() == 2 and "+2" in message and "+1.67" in message
    assert rule.predict(states([4, 1], device)).tolist() == [6, 3]
    again = OffsetLength()
    again.load_state_dict(rule.state_dict())
    assert again.offset.item() == 2
    assert OffsetLength().to(torch.bfloat16).offset.dtype == torch.long
    assert rule.loss_terms(states([4], device), torch.tensor([9], device=device)) == []


def test_ratio_is_the_mean_and_is_saved(device):
    rule = RatioLength().to(device)
    message = rule.fit(torch.tensor([2, 4]), torch.tensor([3, 7]))  # 1.5 and 1.75
    assert rule.millionths.item() == 1_625_000 and "1.625 x source" in message
    assert rule.predict(states([4, 1, 8, 2], device)).tolist() == [7, 2, 13, 3]  # 6.5 rounds up
    again = RatioLength()
    again.load_state_dict(rule.to(torch.bfloat16).state_dict())
    assert again.millionths.item() == 1_625_000
    assert rule.loss_terms(states([4], device), torch.tensor([9], device=device)) == []


def test_classifier_clamps_to_its_range(device):
    torch.manual_seed(0)
    classifier = LengthClassifier(4, reach=2).to(device)
    source = states([3, 3], device)
    targets = torch.tensor([4, 30], device=device)  # differences 1 and 27; the largest class is 2
    (term,) = classifier.loss_terms(source, targets)
    assert term.count == 2 and term.sum.isfinite()
    expected = torch.nn.functional.cross_entropy(
        classifier.logits(source), torch.tensor([3, 4], device=device), reduction="sum"
    )
    torch.testing.assert_close(term.sum, expected)
    with torch.no_grad():
        classifier.projection.weight.zero_()
        classifier.projection.bias.copy_(torch.tensor([0.0, 0, 0, 9, 0]))
    assert classifier.predict(source).tolist() == [4, 4]
    assert "50.00%" in classifier.fit(torch.tensor([3, 3]), torch.tensor([4, 30]))


def test_classifier_ignores_padding(device):
    classifier = LengthClassifier(4).to(device)
    source = states([5, 2], device)
    alone = source.map(lambda x: x[1:, :2])
    torch.testing.assert_close(classifier.logits(source)[1:], classifier.logits(alone))


def test_candidate_window(device):
    lengths, inside = candidate_window(torch.tensor([7, 2, 0, 99], device=device), 9, 10)
    kept = [row[mask].tolist() for row, mask in zip(lengths, inside)]
    assert kept[0] == list(range(3, 11))
    assert kept[1] == [1, 2, 3, 4, 5, 6]
    assert kept[2] == [1, 2, 3, 4, 5]  # clamped to 1 first: there is always a candidate
    assert kept[3] == [6, 7, 8, 9, 10]
    assert lengths.min() >= 1 and lengths.max() <= 10
    wide, every = candidate_window(torch.tensor([3, 10], device=device), 10**12 + 1, 10)
    assert wide.size(1) == 19  # no window has more valid lengths
    assert [row[mask].tolist() for row, mask in zip(wide, every)] == 2 * [list(range(1, 11))]

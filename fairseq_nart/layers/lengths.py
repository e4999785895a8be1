"""Predicts target lengths by a constant offset, a constant ratio or a learned classifier.

Lengths include the EOS on both sides. All predictors have the same three methods: `fit` estimates
statistics from the training data, `predict` gives the lengths of a batch, and `loss_terms` its
loss.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.losses.terms import LossTerm


class OffsetLength(nn.Module):
    """T = S + C, C the mean difference on the training data (arXiv 1910.11555)."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros((), dtype=torch.long))

    def fit(self, source_lengths: Tensor, target_lengths: Tensor) -> str:
        """Sets C from the lengths, both (sentences,), and returns a message for the log."""
        mean = (target_lengths - source_lengths).double().mean()
        self.offset.copy_(mean.round())
        return f"target length = source length {int(self.offset):+d} (mean difference {mean:+.2f})"

    def predict(self, states: EncoderStates) -> Tensor:
        """(B,) lengths, not yet clamped."""
        return states.lengths + self.offset

    def loss_terms(self, states: EncoderStates, target_lengths: Tensor) -> list[LossTerm]:
        """Returns no terms: nothing is learned."""
        return []


class RatioLength(nn.Module):
    """T = round(A S), A the mean of T / S on the training data (arXiv 1812.09664)."""

    millionths: Tensor
    """() A in millionths: an integer, which half precision does not round."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("millionths", torch.tensor(10**6))

    def fit(self, source_lengths: Tensor, target_lengths: Tensor) -> str:
        """Sets A from the lengths, both (sentences,), and returns a message for the log."""
        mean = (target_lengths / source_lengths.double()).mean()
        self.millionths.copy_((mean * 10**6).round())
        return f"target length = {mean:.3f} x source length"

    def predict(self, states: EncoderStates) -> Tensor:
        """(B,) lengths, not yet clamped."""
        return (states.lengths * self.millionths + 5 * 10**5) // 10**6

    def loss_terms(self, states: EncoderStates, target_lengths: Tensor) -> list[LossTerm]:
        """Returns no terms: nothing is learned."""
        return []


class LengthClassifier(nn.Module):
    """Softmax over T - S in -reach..reach from the mean encoder output (arXiv 1802.06901)."""

    def __init__(self, dim: int, reach: int = 64) -> None:
        super().__init__()
        self.reach = reach
        self.projection = nn.Linear(dim, 2 * reach + 1)

    def fit(self, source_lengths: Tensor, target_lengths: Tensor) -> str:
        """Both (sentences,). Sets nothing; the message gives the share of differences > reach."""
        beyond = ((target_lengths - source_lengths).abs() > self.reach).double().mean()
        return (
            f"length classifier over differences of -{self.reach} to {self.reach}; {beyond:.2%} of "
            "the training pairs are outside and are trained as the nearest class"
        )

    def logits(self, states: EncoderStates) -> Tensor:
        """(B,2*reach+1) scores of the differences."""
        total = (states.output * states.mask[..., None]).sum(dim=1)
        logits: Tensor = self.projection(total / states.lengths[:, None].to(total))
        return logits

    def predict(self, states: EncoderStates) -> Tensor:
        """(B,) most probable lengths, not yet clamped."""
        return states.lengths + self.logits(states).argmax(dim=1) - self.reach

    def loss_terms(self, states: EncoderStates, target_lengths: Tensor) -> list[LossTerm]:
        """Cross-entropy of the true difference; target_lengths (B,)."""
        difference = target_lengths - states.lengths
        classes = difference.clamp(-self.reach, self.reach) + self.reach
        loss = F.cross_entropy(self.logits(states).float(), classes, reduction="sum")
        return [LossTerm("length_loss", loss, len(classes))]


def candidate_window(lengths: Tensor, candidates: int, longest: int) -> tuple[Tensor, Tensor]:
    """Lengths L-b .. L+b around each L of `lengths` (B,), for 2b + 1 candidates.

    Returns lengths (B,N) and a mask (B,N), False outside 1..longest, where the length is set to 1.
    N is at most 2 longest - 1, because a wider window has no more valid lengths. The middle column
    is always valid.
    """
    half = min(candidates // 2, longest - 1)
    offsets = torch.arange(-half, half + 1, device=lengths.device)
    window = lengths.clamp(1, longest)[:, None] + offsets
    inside = (window >= 1) & (window <= longest)
    return window.masked_fill(~inside, 1), inside


def length_mask(lengths: Tensor, width: int) -> Tensor:
    """lengths (B,) -> (B,width) bool, True on the first `lengths` positions."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def build_length_predictor(name: str, dim: int) -> OffsetLength | RatioLength | LengthClassifier:
    """The length predictor `name`: offset, ratio or classifier; dim is the encoder's width."""
    if name == "classifier":
        return LengthClassifier(dim)
    return RatioLength() if name == "ratio" else OffsetLength()

"""Turns raw decoder output into candidates: cuts at the EOS and collapses repeats."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """Candidates: their tokens before the first EOS, after de-duplication, plus one EOS.

    L is the length of the longest.
    """

    tokens: Tensor
    """(BN,L) token ids, `pad` after the EOS."""
    mask: Tensor
    """(BN,L) bool, True up to and including the EOS: the tokens that a teacher scores."""
    log_probs: Tensor
    """(BN,L) the system's log-probability of each token; 0 for an EOS that was added."""


def finish(
    tokens: Tensor, log_probs: Tensor, mask: Tensor, eos: int, pad: int, dedup: bool, longest: int
) -> Candidates:
    """tokens, log_probs, mask (BN,T), mask True on real positions -> candidates.

    Candidates are cut to `longest` tokens, the EOS included.
    """
    batch, width = tokens.shape
    is_end = (tokens == eos) & mask
    keep = mask & (is_end.cumsum(dim=1) == 0)  # before the first EOS
    if dedup:
        repeats = torch.zeros_like(keep)
        repeats[:, 1:] = tokens[:, 1:] == tokens[:, :-1]
        keep &= ~repeats
    kept = keep.cumsum(dim=1)
    keep &= kept < longest
    count = kept[:, -1:].clamp(max=longest - 1)  # (BN,1)
    # Kept tokens move left; all others go into an extra last column, which is cut off.
    column = torch.where(keep, kept - 1, width + 1)
    moved = tokens.new_full((batch, width + 2), pad).scatter_(1, column, tokens)
    moved.scatter_(1, count, eos)
    scores = log_probs.new_zeros((batch, width + 2)).scatter_(1, column, log_probs)
    ended = (is_end & (is_end.cumsum(dim=1) == 1)).to(log_probs)
    scores.scatter_(1, count, (ended * log_probs).sum(dim=1, keepdim=True))
    most = 1 + int(count.max())  # columns beyond the longest candidate are dropped
    real = torch.arange(most, device=tokens.device) <= count
    moved, scores = moved[:, :most], scores[:, :most]
    return Candidates(moved.masked_fill(~real, pad), real, scores.masked_fill(~real, 0.0))

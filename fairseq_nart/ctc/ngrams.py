"""Matches of bigrams under CTC, whatever the alignment (NMLA, arXiv 2210.03953).

B batch, F frames, L labels.
"""

import math

import torch
from torch import Tensor


def bigram_loss(
    log_probs: Tensor, repeats: Tensor, labels: Tensor, frames: Tensor, lengths: Tensor
) -> Tensor:
    """1 - F1 of the output's and the target's bigrams, summed over targets of two labels or more.

    log_probs (B,F,1+L) and repeats (B,F-1) from `label_log_probs_and_repeats`; labels (B,L); frames
    and lengths (B,), the real numbers of frames and labels. F1 is 2 M / (N + N'), where N' is the
    target's number of bigrams, N its expectation for the output, and M the expected number of
    matches: of each bigram of the target the expected count, at most the count in the target.
    """
    real = torch.arange(log_probs.size(1), device=frames.device) < frames[:, None]
    counts = expected_counts(log_probs, labels, real)
    inside = torch.arange(labels.size(1) - 1, device=labels.device) < lengths[:, None] - 1
    first, second = labels[:, :-1], labels[:, 1:]
    same = (first[:, :, None] == first[:, None]) & (second[:, :, None] == second[:, None])
    target = (same & inside[:, None]).sum(dim=2).clamp(min=1)  # (B,L-1)
    # Equal bigrams share their matches.
    matches = torch.minimum(counts, target.to(counts)) / target
    matches = matches.masked_fill(~inside, 0.0).sum(dim=1)
    total = expected_bigrams(log_probs[..., 0], repeats, real) + lengths - 1
    several = lengths > 1
    loss = 1 - 2 * matches / total.masked_fill(~several, 1.0)
    return loss.masked_fill(~several, 0.0).sum()


def expected_counts(log_probs: Tensor, labels: Tensor, real: Tensor) -> Tensor:
    """(B,L-1): how often labels l and l+1 are neighbours in the output, on average over all paths.

    The label (b) follows (a) if a is in frame i, b in a later frame j and blanks in between: the
    sum of P_i(a) P_j(b) prod P_k(blank). Neighbouring frames with the same label are one token.
    """
    probs = log_probs[..., 1:].exp().masked_fill(~real[..., None], 0.0)  # (B,F,L)
    blank = log_probs[..., 0].masked_fill(~real, 0.0)
    until = blank.cumsum(dim=1)  # (B,F), this frame included
    between = (until - blank)[:, None] - until[:, :, None]  # (B,F,F)
    later = torch.ones_like(between[0], dtype=torch.bool).triu(diagonal=1)
    between = between.masked_fill(~later, -math.inf).exp()
    first, second = probs[..., :-1], probs[..., 1:]
    counts = ((between.transpose(1, 2) @ first) * second).sum(dim=1)
    merged = (first[:, :-1] * second[:, 1:]).sum(dim=1)
    return counts - merged.masked_fill(labels[:, :-1] != labels[:, 1:], 0.0)


def expected_bigrams(blank: Tensor, repeats: Tensor, real: Tensor) -> Tensor:
    """(B,): the expected number of bigrams of the output, that of its tokens less 1 unless empty.

    blank (B,F) is the log-probability of the blank; repeats as in `bigram_loss`.
    """
    token = (-torch.expm1(blank)).masked_fill(~real, 0.0)  # (B,F)
    merged = token[:, :-1] * token[:, 1:] * repeats
    empty = blank.masked_fill(~real, 0.0).sum(dim=1).exp()
    return token.sum(dim=1) - merged.sum(dim=1) - 1 + empty

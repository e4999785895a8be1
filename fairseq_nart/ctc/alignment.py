"""The most probable CTC alignment of a target.

B batch, F frames, L labels.
"""

import math

import torch
from torch import Tensor


@torch.no_grad()
def best_alignment(
    log_probs: Tensor, labels: Tensor, frames: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """The most probable path that collapses to the labels (Viterbi), and whether there is one.

    log_probs (B,F,1+L) of the blank and of each label, from `label_log_probs`; labels (B,L); frames
    and lengths (B,), the real numbers of frames and labels. Returns the path (B,F), 0 for a blank
    and 1+l for label l, arbitrary at padding and where it does not fit, and (B,) bool.
    """
    states = torch.arange(2 * labels.size(1) + 1, device=labels.device)  # blank, label, blank, ...
    column = torch.where(states % 2 == 1, states // 2 + 1, 0)
    emit = log_probs[:, :, column]  # (B,F,2L+1)
    emit = emit.masked_fill((states > 2 * lengths[:, None])[:, None], -math.inf)
    # A blank may be left out between two labels that differ.
    own = labels[:, (column - 1).clamp(min=0)]  # (B,2L+1)
    skips = (states % 2 == 1) & (own != own.roll(2, dims=1)) & (states > 1)
    score = emit[:, 0].masked_fill(states > 1, -math.inf)
    moves = [torch.zeros_like(own)]
    for frame in range(1, log_probs.size(1)):
        padded = torch.nn.functional.pad(score, (2, 0), value=-math.inf)  # (B,2L+3)
        skip = padded[:, :-2].masked_fill(~skips, -math.inf)
        best, move = torch.stack([score, padded[:, 1:-1], skip], dim=2).max(dim=2)
        real = (frame < frames)[:, None]
        score = torch.where(real, best + emit[:, frame], score)
        moves.append(move.masked_fill(~real, 0))
    ends = torch.stack([2 * lengths, (2 * lengths - 1).clamp(min=0)], dim=1)  # (B,2)
    total, which = score.gather(1, ends).max(dim=1, keepdim=True)
    state = ends.gather(1, which)  # (B,1)
    path = [state]
    for move in reversed(moves[1:]):
        state = state - move.gather(1, state)
        path.append(state)
    return column[torch.cat(path[::-1], dim=1)], total[:, 0] > -math.inf

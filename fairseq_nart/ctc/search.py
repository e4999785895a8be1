"""CTC decoding in batches: best path and prefix beam search.

B batch, F frames, V vocabulary, W prefixes. Log-probabilities (B,F,V+1) cover the V tokens, then
the blank; mask (B,F) bool, real frames first.
"""

import math

import torch
from torch import Tensor

HASH = 6364136223846793005
"""Multiplier of Knuth's linear congruential generator, modulo 2^64, for hashing prefixes."""


def collapse(path: Tensor, mask: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Merges repeats, then drops blanks.

    path (B,F) -> a mask (B,F) of the frames that start a token, and the index (B,F) of the token
    that each frame belongs to, from 0. Frames before the first token belong to it.
    """
    starts = mask & (path != blank)
    starts[:, 1:] &= path[:, 1:] != path[:, :-1]
    return starts, (starts.cumsum(dim=1) - 1).clamp(min=0)


def best_path(log_probs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable path, collapsed: tokens (B,F), their number (B,) and scores (B,F+1).

    The scores are log-probabilities that sum to the path's. Each token has the sum over its frames;
    the first one includes the blanks before it. For an empty output, entry 0 has the whole sum.
    """
    scores, path = log_probs.max(dim=2)  # (B,F)
    starts, owner = collapse(path, mask, log_probs.size(2) - 1)
    spread = scores.new_zeros(len(path), path.size(1) + 1)
    spread.scatter_add_(1, owner, scores.masked_fill(~mask, 0))
    # Frames that start no token go into an extra last column, which is cut off.
    column = torch.where(starts, owner, path.size(1))
    tokens = path.new_zeros(len(path), path.size(1) + 1).scatter_(1, column, path)[:, :-1]
    return tokens, starts.sum(dim=1), spread


def prefix_beam_search(log_probs: Tensor, mask: Tensor, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `beam` most probable outputs, each summed over its paths that the search keeps.

    Returns tokens (B,W,F), their number (B,W) and log-probabilities (B,W), best first; -inf for
    missing outputs. Each prefix is extended by the `beam` most probable tokens of a frame. The
    search is exact if the beam never drops a prefix or token.
    """
    batch, frames, size = log_probs.shape
    state = _Prefixes.empty(batch, beam, frames, log_probs)
    best = log_probs[..., :-1].topk(min(beam, size - 1), dim=2)
    for frame in range(frames):
        step = state.step(log_probs[:, frame], best.values[:, frame], best.indices[:, frame], frame)
        state = step.where(mask[:, frame], state)
    scores, order = state.total.sort(dim=1, descending=True)
    tokens = state.tokens.gather(1, order[..., None].expand_as(state.tokens))
    return tokens, state.lengths.gather(1, order), scores


class _Prefixes:
    """W prefixes per sentence: tokens (B,W,F), lengths (B,W), last tokens (B,W), hashes (B,W), and
    the log-probabilities (B,W) of their paths that end in a blank and in the last token."""

    def __init__(
        self,
        tokens: Tensor,
        lengths: Tensor,
        last: Tensor,
        code: Tensor,
        in_blank: Tensor,
        in_token: Tensor,
    ) -> None:
        self.tokens, self.lengths, self.last, self.code = tokens, lengths, last, code
        self.in_blank, self.in_token = in_blank, in_token

    @classmethod
    def empty(cls, batch: int, beam: int, frames: int, like: Tensor) -> "_Prefixes":
        none = torch.zeros(batch, beam, dtype=torch.long, device=like.device)
        impossible = like.new_full((batch, beam), -math.inf)
        in_blank = impossible.clone()
        in_blank[:, 0] = 0
        tokens = none[..., None].repeat(1, 1, frames)
        return cls(tokens, none, none - 1, none, in_blank, impossible)

    @property
    def total(self) -> Tensor:
        return torch.logaddexp(self.in_blank, self.in_token)

    def step(self, frame: Tensor, scores: Tensor, labels: Tensor, position: int) -> "_Prefixes":
        """Reads one frame: log-probabilities (B,V+1); scores and labels (B,C) of the C best."""
        beam, most = self.total.size(1), labels.size(1)
        # The prefix stays the same after a blank, or after its last token again.
        repeat = frame.gather(1, self.last.clamp(min=0)).masked_fill(self.last < 0, -math.inf)
        in_blank, in_token = self.total + frame[:, -1:], self.in_token + repeat
        # The prefix grows by one token, which may equal the last one only after a blank.
        repeated = labels[:, None] == self.last[..., None]  # (B,W,C)
        longer = scores[:, None] + torch.where(
            repeated, self.in_blank[..., None], self.total[..., None]
        )
        code = self.code[..., None] * HASH + labels[:, None] + 1
        # Merge an extension into the kept prefix that it equals: (B, W kept, W*C extended). At most
        # one does: the prefix without its last token is kept once.
        alive = self.total > -math.inf
        known = (code.flatten(1)[:, None] == self.code[..., None]) & alive[..., None]
        grown = longer.flatten(1)
        joined = grown[:, None].masked_fill(~known, -math.inf).amax(dim=2)
        in_token = torch.logaddexp(in_token, joined)
        grown = grown.masked_fill(known.any(dim=1), -math.inf)
        # Keep the best of the unchanged and the extended prefixes.
        kept = torch.cat([torch.logaddexp(in_blank, in_token), grown], dim=1).topk(beam, dim=1)
        is_longer = kept.indices >= beam
        column = (kept.indices - beam).clamp(min=0)  # among the extended ones
        parent = torch.where(is_longer, column // most, kept.indices)
        token = labels.gather(1, column % most)

        def pick(longer: Tensor | float, same: Tensor) -> Tensor:
            return torch.where(is_longer, longer, same.gather(1, parent))

        lengths = self.lengths.gather(1, parent)
        tokens = self.tokens.gather(1, parent[..., None].expand_as(self.tokens))
        here = torch.arange(tokens.size(2), device=tokens.device) == lengths[..., None]
        return _Prefixes(
            torch.where(here & is_longer[..., None], token[..., None], tokens),
            lengths + is_longer,
            pick(token, self.last),
            pick(code.flatten(1).gather(1, column), self.code),
            pick(-math.inf, in_blank),
            pick(grown.gather(1, column), in_token),
        )

    def where(self, real: Tensor, otherwise: "_Prefixes") -> "_Prefixes":
        """These prefixes for the sentences where `real` (B,) is True, else `otherwise`'s."""
        pairs = zip(vars(self).values(), vars(otherwise).values(), strict=True)
        return _Prefixes(
            *(torch.where(real.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in pairs)
        )

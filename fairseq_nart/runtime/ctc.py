"""CTC: best path and prefix beam search, the counterpart of `fairseq_nart.ctc.search`."""

from dataclasses import dataclass, replace

import numpy as np

from fairseq_nart.runtime.search import largest
from fairseq_nart.runtime.states import Bools, Decoded, Floats, Ints, Source, Targets
from fairseq_nart.runtime.system import System

HASH = np.int64(6364136223846793005)
"""Multiplier for hashing prefixes, modulo 2^64."""


class Runtime(System):
    """Decodes as `NartCtc` does."""

    def encode(self, tokens: Ints) -> Source:
        """All frames; their whole distributions for a beam only."""
        beam = self.options.ctc_beam > 1
        names = ["scores"] if beam else ["best", "log_probs"]
        bias = np.array(self.options.ctc_blank_bias, np.float32)
        encoded = self.graphs["encode"](names, tokens=tokens, blank_bias=bias)
        return Source(tokens, tokens != self.manifest.pad, encoded)

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest array of `encode`, which also decodes all frames."""
        frames = int(self.manifest.constants["ctc_split"]) * source
        return max(super().sentence_elements(frames), frames * (self.manifest.vocab_size + 1))

    def row_elements(self, length: int, source: int) -> int:
        """Elements of the largest array for one target: its distributions, or the prefixes (int64)
        and comparisons of the beam search."""
        beam, vocabulary = self.options.ctc_beam, self.manifest.vocab_size
        search = max(2 * beam * length, beam**2 * min(beam, vocabulary)) if beam > 1 else 0
        return max(length * (vocabulary + 1), search)

    def propose(self, source: Source) -> Targets:
        """One target per sentence, as long as its frames."""
        lengths = self.manifest.constants["ctc_split"] * source.mask.sum(axis=1, keepdims=True)
        return Targets(lengths, np.ones_like(lengths, bool))

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        mask, blank = targets.mask(), self.manifest.vocab_size
        frames = {x: y[:, : mask.shape[1]] for x, y in source.encoded.items()}
        if self.options.ctc_beam == 1:
            tokens, lengths, log = best_path(frames["best"], frames["log_probs"], mask, blank)
            valid = targets.valid
        else:
            scores = frames["scores"][..., : blank + 1]
            outputs = prefix_beam_search(scores, mask, self.options.ctc_beam)
            valid = outputs[2] > -np.inf
            tokens, lengths = outputs[0].reshape(valid.size, -1), outputs[1].reshape(-1)
            spread = outputs[2].reshape(-1, 1) / (lengths[:, None] + 1)
            log = np.repeat(spread, tokens.shape[1] + 1, axis=1)
        tokens = np.pad(tokens, ((0, 0), (0, 1)))
        tokens[np.arange(len(tokens)), lengths] = self.manifest.eos
        real = np.arange(tokens.shape[1]) <= lengths[:, None]
        return Decoded(tokens, np.where(real, log, 0), real, valid)


def best_path(path: Ints, scores: Floats, mask: Bools, blank: int) -> tuple[Ints, Ints, Floats]:
    """Merges repeats and drops blanks of a path (B,F) with log-probabilities (B,F).

    Returns tokens (B,F), their number (B,) and scores (B,F+1): each token has the sum over its
    frames, the first one with the blanks before it.
    """
    starts = mask & (path != blank)
    starts[:, 1:] &= path[:, 1:] != path[:, :-1]
    owner = np.maximum(starts.cumsum(axis=1) - 1, 0)
    spread = np.zeros((len(path), path.shape[1] + 1), np.float32)
    rows = np.arange(len(path))[:, None]
    np.add.at(spread, (rows, owner), np.where(mask, scores, 0))
    tokens = np.zeros_like(path)
    row, column = np.nonzero(starts)
    tokens[row, owner[row, column]] = path[row, column]
    return tokens, starts.sum(axis=1), spread


def prefix_beam_search(log_probs: Floats, mask: Bools, beam: int) -> tuple[Ints, Ints, Floats]:
    """log_probs (B,F,V+1), the blank last -> tokens (B,W,F), their number and score (B,W)."""
    batch, frames, _ = log_probs.shape
    best, labels = largest(log_probs[..., :-1], beam)
    none = np.zeros((batch, beam), np.int64)
    impossible = np.full((batch, beam), -np.inf, log_probs.dtype)
    in_blank = impossible.copy()
    in_blank[:, 0] = 0
    tokens = np.zeros((batch, beam, frames), np.int64)
    state = _Prefixes(tokens, none, none - 1, none, in_blank, impossible)
    for frame in range(frames):
        after = state.step(log_probs[:, frame], best[:, frame], labels[:, frame])
        state = after if mask[:, frame].all() else after.where(mask[:, frame], state)
    order = np.argsort(-state.total, axis=1, kind="stable")
    every = np.arange(batch)[:, None]
    return state.tokens[every, order], state.lengths[every, order], state.total[every, order]


@dataclass(frozen=True)
class _Prefixes:
    """W prefixes per sentence, (B,W,...) each."""

    tokens: Ints
    lengths: Ints
    last: Ints
    code: Ints
    """Hashes."""
    in_blank: Floats
    """Log-probability of the paths that end in a blank; `in_token`: in the last token."""
    in_token: Floats

    @property
    def total(self) -> Floats:
        result: Floats = np.logaddexp(self.in_blank, self.in_token)
        return result

    def step(self, frame: Floats, scores: Floats, labels: Ints) -> "_Prefixes":
        """Reads one frame: frame (B,V+1), scores and labels (B,C) of its C best tokens."""
        beam, most = self.lengths.shape[1], labels.shape[1]
        every, total = np.arange(len(frame))[:, None], self.total
        repeat = np.where(self.last < 0, -np.inf, frame[every, np.maximum(self.last, 0)])
        in_blank, in_token = total + frame[:, -1:], self.in_token + repeat
        repeated = labels[:, None] == self.last[..., None]  # (B,W,C)
        longer = scores[:, None] + np.where(repeated, self.in_blank[..., None], total[..., None])
        with np.errstate(over="ignore"):
            code = self.code[..., None] * HASH + labels[:, None] + 1
        code, grown = code.reshape(len(frame), -1), longer.reshape(len(frame), -1)
        # Merge an extension into the kept prefix that it equals: (B, W kept, W*C extended). At most
        # one does: the prefix without its last token is kept once.
        alive = total > -np.inf
        known = (code[:, None] == self.code[..., None]) & alive[..., None]
        joined = np.where(known, grown[:, None], -np.inf).max(axis=2)
        in_token = np.logaddexp(in_token, joined)
        grown = np.where(known.any(axis=1), -np.inf, grown)
        every_one = np.concatenate([np.logaddexp(in_blank, in_token), grown], axis=1)
        _, kept = largest(every_one, beam)
        is_longer, column = kept >= beam, np.maximum(kept - beam, 0)
        parent = np.where(is_longer, column // most, kept)
        token = labels[every, column % most]
        lengths, tokens = self.lengths[every, parent], self.tokens[every, parent]
        here = (np.arange(tokens.shape[2]) == lengths[..., None]) & is_longer[..., None]
        return _Prefixes(
            np.where(here, token[..., None], tokens),
            lengths + is_longer,
            np.where(is_longer, token, self.last[every, parent]),
            np.where(is_longer, code[every, column], self.code[every, parent]),
            np.where(is_longer, -np.inf, in_blank[every, parent]).astype(frame.dtype),
            np.where(is_longer, grown[every, column], in_token[every, parent]),
        )

    def where(self, real: Bools, otherwise: "_Prefixes") -> "_Prefixes":
        """These prefixes for the sentences where `real` (B,), else `otherwise`'s."""
        changes = {
            name: np.where(real.reshape(-1, *[1] * (one.ndim - 1)), one, getattr(otherwise, name))
            for name, one in vars(self).items()
        }
        return replace(self, **changes)

"""Turns raw outputs into hypotheses: the counterpart of `generation.clean` and `ranking`."""

from dataclasses import dataclass

import numpy as np

from fairseq_nart.generation.normalization import normalize
from fairseq_nart.runtime.states import Bools, Decoded, Floats, Ints


@dataclass(frozen=True)
class Candidates:
    """Tokens before the first EOS, after de-duplication, plus one EOS."""

    tokens: Ints
    """(R,L), `pad` after the EOS."""
    mask: Bools
    """(R,L), True up to and including the EOS."""
    log_probs: Floats
    """(R,L) of each token; 0 for an EOS that was added."""
    scores: Floats
    """(R,), -inf for rows that do not exist."""
    iterations: Ints
    """(R,)"""


@dataclass(frozen=True)
class Hypothesis:
    """One finished translation."""

    tokens: list[int]
    """The EOS last."""
    score: float
    """The score that ranks candidates, in nats."""
    iterations: int = 1


def finish(
    decoded: Decoded, rule: str, *, eos: int, pad: int, dedup: bool, longest: int, empty: Bools
) -> Candidates:
    """Cuts outputs at the first EOS, and to `longest` tokens with it; scores them by `rule`.

    Rows of an `empty` source (R,) get an empty output.
    """
    tokens = np.where(empty[:, None], eos, decoded.tokens)
    rows = len(tokens)
    is_end = (tokens == eos) & decoded.mask
    keep = decoded.mask & (is_end.cumsum(axis=1) == 0)
    if dedup:
        keep[:, 1:] &= tokens[:, 1:] != tokens[:, :-1]
    kept = keep.cumsum(axis=1)
    keep &= kept < longest
    count = np.minimum(kept[:, -1], longest - 1)
    most = 1 + int(count.max())
    every = np.arange(rows)
    moved, scores = np.full((rows, most), pad), np.zeros((rows, most), np.float32)
    row, column = np.nonzero(keep)
    moved[row, kept[row, column] - 1] = tokens[row, column]
    scores[row, kept[row, column] - 1] = decoded.log_probs[row, column]
    moved[every, count] = eos
    ended = is_end.any(axis=1)
    scores[every, count] = np.where(ended, decoded.log_probs[every, is_end.argmax(axis=1)], 0)
    mask = np.arange(most) <= count[:, None]
    total = normalize(scores.sum(axis=1), count + 1, rule, alpha=0.0)
    exists = decoded.valid.reshape(-1)
    iterations = np.broadcast_to(np.asarray(decoded.iterations), rows)
    return Candidates(moved, mask, scores, np.where(exists, total, -np.inf), iterations)


def rank(candidates: Candidates, sentences: int, most: int | None) -> list[list[Hypothesis]]:
    """The distinct hypotheses of each sentence, best first, at most `most`; of equal scores the
    first row."""
    width = len(candidates.scores) // sentences
    order = np.argsort(-candidates.scores.reshape(sentences, width), axis=1, kind="stable")
    ends, result = candidates.mask.sum(axis=1), []
    for sentence, places in enumerate(order.tolist()):
        distinct: dict[tuple[int, ...], Hypothesis] = {}
        for place in places:
            row = sentence * width + place
            score = float(candidates.scores[row])
            if score == -np.inf or len(distinct) == most:
                break
            tokens = candidates.tokens[row, : ends[row]].tolist()
            one = Hypothesis(tokens, score, int(candidates.iterations[row]))
            distinct.setdefault(tuple(tokens), one)
        result.append(list(distinct.values()))
    return result

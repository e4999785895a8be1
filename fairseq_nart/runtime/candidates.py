"""Turns raw outputs into hypotheses: the counterpart of `generation.clean` and `ranking`.

Plain Python, because for the few short rows of a sentence each NumPy call takes longer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairseq_nart.generation.normalization import normalize
from fairseq_nart.runtime.states import Decoded


@dataclass(frozen=True)
class Hypothesis:
    """One finished translation."""

    tokens: list[int]
    """The EOS last."""
    score: float
    """The score that ranks candidates, in nats."""
    iterations: int = 1
    place: int = 0
    """Its index among all candidates of the sentence. Of equal scores, the lowest index wins."""


@dataclass(frozen=True)
class Cleaning:
    """How raw outputs become hypotheses."""

    eos: int
    longest: int
    """Most tokens, the EOS included."""
    dedup: bool
    """Whether repeated tokens are collapsed."""
    rule: str
    """The normalization rule of the model's own score."""


def finish(
    decoded: Decoded, empty: list[bool], how: Cleaning, columns: Sequence[int] = (0,)
) -> list[list[Hypothesis]]:
    """The hypotheses of each sentence, in the order of its rows: the tokens before the first EOS,
    then one EOS. A sentence that is `empty` has an empty output. `columns` are those of the targets
    that were decoded, with one or several rows each."""
    tokens, log_probs = decoded.tokens.tolist(), decoded.log_probs.tolist()
    lengths, valid = decoded.mask.sum(axis=1).tolist(), decoded.valid.tolist()
    passes = decoded.iterations
    iterations = [passes] * len(tokens) if isinstance(passes, int) else passes.tolist()
    several = decoded.valid.shape[1] // len(columns)
    numbers = [several * column + i for column in columns for i in range(several)]
    result, row = [], 0
    for nothing, exists in zip(empty, valid, strict=True):
        hypotheses = []
        for place, real in zip(numbers, exists, strict=True):
            if real:
                ids = [how.eos] if nothing else tokens[row][: lengths[row]]
                one = _finished(ids, log_probs[row], how)
                hypotheses.append(Hypothesis(*one, iterations[row], place))
            row += 1
        result.append(hypotheses)
    return result


def _finished(ids: list[int], log_probs: list[float], how: Cleaning) -> tuple[list[int], float]:
    """The tokens of a hypothesis and its score."""
    end = ids.index(how.eos) if how.eos in ids else len(ids)
    places = list(range(end))
    if how.dedup:
        places = [i for i in places if i == 0 or ids[i] != ids[i - 1]]
    places = places[: how.longest - 1]
    total = sum(map(log_probs.__getitem__, places))
    if end < len(ids):
        total += log_probs[end]
    score = normalize(total, len(places) + 1, how.rule, alpha=0.0)
    return [*map(ids.__getitem__, places), how.eos], score


def distinct(hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
    """Each output once, best first; of equal scores the one in the first place."""
    ranked: dict[tuple[int, ...], Hypothesis] = {}
    for one in sorted(hypotheses, key=lambda one: (-one.score, one.place)):
        ranked.setdefault(tuple(one.tokens), one)
    return list(ranked.values())

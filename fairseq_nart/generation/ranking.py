"""The distinct hypotheses of each sentence, best first, whatever passes bring them."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from fairseq_nart.generation.clean import Candidates

MOST_BYTES = 2**32
"""Most memory that the hypotheses of one batch may take: 4 GiB."""


@dataclass(frozen=True)
class Hypothesis:
    """One finished translation."""

    tokens: Tensor
    """(L,) token ids, the EOS last."""
    score: float
    """What the candidates were ranked by, in nats: the teacher's normalised score where there is a
    teacher, else the system's own log-probability, per token or (CTC) of the whole."""
    token_scores: Tensor
    """(L,) log-probabilities of the tokens by the one who ranked, in nats."""
    iterations: int = 1
    """Passes of the decoder that it took."""

    @property
    def bytes(self) -> int:
        """Memory that it takes: its numbers, and about 1 KiB for the objects themselves."""
        return self.tokens.nbytes + self.token_scores.nbytes + 1024


@dataclass(frozen=True)
class ScoredPass:
    """Finished rows of B sentences: K in a row for each of N columns of the proposal."""

    columns: list[int]
    """N numbers of columns."""
    candidates: Candidates
    """BNK rows."""
    scores: Tensor
    """(B,NK) what ranks them, -inf where a row means nothing."""
    iterations: Tensor
    """(B,NK) passes of the decoder that each took."""


class Ranking:
    """Collects the hypotheses of a batch."""

    def __init__(self, most: int | None, lower: str) -> None:
        """Keeps `most` hypotheses of a sentence, None: all. `lower` names the options that make
        them fewer, for the message where they are too many."""
        self.most = most
        self.lower = lower
        self.bytes = 0
        self.sentences: list[list[Hypothesis]] = []
        """Those of each sentence so far, best first."""

    def add(self, count: int, passes: Iterable[ScoredPass]) -> None:
        """All passes over the next `count` sentences.

        Of equal hypotheses the best is kept; of equal scores the lower column ranks first.
        ValueError where the hypotheses of the batch take more than `MOST_BYTES`.
        """
        best: list[dict[bytes, tuple[float, int, Hypothesis]]] = [{} for _ in range(count)]
        for each in passes:
            for found, more in zip(best, self._hypotheses(each), strict=True):
                for key, new in more.items():
                    if key not in found or new[:2] < found[key][:2]:
                        found[key] = new
                if self.most is not None:
                    for key in sorted(found, key=lambda k: found[k][:2])[self.most :]:
                        del found[key]
            taken = self.bytes + sum(h.bytes for found in best for _, _, h in found.values())
            if taken > MOST_BYTES:
                raise ValueError(
                    f"the hypotheses of a batch take more than {MOST_BYTES / 2**30:g} GiB: lower "
                    f"{self.lower}, or translate fewer sentences at a time"
                )
        self.bytes = taken
        for found in best:
            self.sentences.append([h for _, _, h in sorted(found.values(), key=lambda x: x[:2])])

    def _hypotheses(self, each: ScoredPass) -> list[dict[bytes, tuple[float, int, Hypothesis]]]:
        """Per sentence the `most` best by their tokens, with what sorts them: -score and place."""
        # One transfer each, then plain Python: no synchronisation per sentence.
        tokens, log_probs = each.candidates.tokens.cpu(), each.candidates.log_probs.cpu()
        words, ends = tokens.numpy(), each.candidates.mask.sum(dim=1).tolist()
        iterations, width = each.iterations.flatten().tolist(), each.scores.size(1)
        several = width // len(each.columns)
        places = [several * column + i for column in each.columns for i in range(several)]
        found = []
        for sentence, values in enumerate(each.scores.tolist()):
            ranks = zip((-value for value in values), places, range(sentence * width, len(words)))
            distinct: dict[bytes, tuple[float, int, Hypothesis]] = {}
            for minus, place, row in sorted(rank for rank in ranks if rank[0] != float("inf")):
                end = ends[row]
                key = words[row, :end].tobytes()
                if key not in distinct:
                    # Copies: a view would keep the whole pass, and fairseq-generate changes them in
                    # place, which inference mode forbids.
                    own = tokens[row, :end].clone(), -minus, log_probs[row, :end].clone()
                    distinct[key] = minus, place, Hypothesis(*own, iterations[row])
                if len(distinct) == self.most:
                    break
            found.append(distinct)
        return found

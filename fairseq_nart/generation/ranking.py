"""Collects and ranks the distinct hypotheses of each sentence over all passes."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from fairseq_nart.errors import UserError
from fairseq_nart.generation.clean import Candidates

MOST_BYTES = 2**32
"""Most memory that the hypotheses of one batch may take: 4 GiB."""


@dataclass(frozen=True)
class Hypothesis:
    """One finished translation."""

    tokens: Tensor
    """(L,) token ids, the EOS last."""
    score: float
    """The score that ranks candidates, in nats: the teacher's normalised score if there is a
    teacher, else the system's log-probability, per token or (CTC) of the whole sentence."""
    token_scores: Tensor
    """(L,) log-probabilities of the tokens in nats, from the model that ranks."""
    iterations: int = 1
    """Number of decoder passes."""

    @property
    def bytes(self) -> int:
        """Memory in bytes: the tensors' data, and about 1 KiB for the Python objects."""
        return self.tokens.nbytes + self.token_scores.nbytes + 1024


@dataclass(frozen=True)
class ScoredPass:
    """Candidates of B sentences: K adjacent rows for each of N columns of the proposal."""

    columns: list[int]
    """The N column indices."""
    candidates: Candidates
    """BNK rows."""
    scores: Tensor
    """(B,NK) sentence scores, -inf for invalid rows."""
    iterations: Tensor
    """(B,NK) number of decoder passes of each row."""


class Ranking:
    """Collects the hypotheses of a batch."""

    def __init__(self, most: int | None, lower: str) -> None:
        """Keeps the `most` best hypotheses of each sentence, or all if it is None. `lower` names
        the options to lower in the error message about too many hypotheses."""
        self.most = most
        self.lower = lower
        self.bytes = 0
        self.sentences: list[list[Hypothesis]] = []
        """The hypotheses of each sentence so far, best first."""

    def add(self, count: int, passes: Iterable[ScoredPass]) -> None:
        """Adds all passes over the next `count` sentences.

        Of equal hypotheses the best is kept; equal scores are ranked by column. UserError if the
        hypotheses of the batch take more than `MOST_BYTES`.
        """
        best: list[dict[bytes, tuple[float, int, Hypothesis]]] = [{} for _ in range(count)]
        for each in passes:
            for kept, new in zip(best, self._hypotheses(each), strict=True):
                for key, entry in new.items():
                    if key not in kept or entry[:2] < kept[key][:2]:
                        kept[key] = entry
                if self.most is not None:
                    for key in sorted(kept, key=lambda k: kept[k][:2])[self.most :]:
                        del kept[key]
            used = self.bytes + sum(h.bytes for kept in best for _, _, h in kept.values())
            if used > MOST_BYTES:
                raise UserError(
                    f"the hypotheses of a batch take more than {MOST_BYTES / 2**30:g} GiB: lower "
                    f"{self.lower}, or translate fewer sentences at a time"
                )
        self.bytes = used
        for kept in best:
            self.sentences.append([h for _, _, h in sorted(kept.values(), key=lambda x: x[:2])])

    def _hypotheses(self, each: ScoredPass) -> list[dict[bytes, tuple[float, int, Hypothesis]]]:
        """For each sentence its `most` best: token bytes -> (-score, place, hypothesis)."""
        # One transfer for each tensor, then plain Python, to avoid a synchronisation per sentence.
        tokens, log_probs = each.candidates.tokens.cpu(), each.candidates.log_probs.cpu()
        words, ends = tokens.numpy(), each.candidates.mask.sum(dim=1).tolist()
        iterations, width = each.iterations.flatten().tolist(), each.scores.size(1)
        several = width // len(each.columns)
        places = [several * column + i for column in each.columns for i in range(several)]
        result = []
        for sentence, values in enumerate(each.scores.tolist()):
            ranks = zip((-value for value in values), places, range(sentence * width, len(words)))
            distinct: dict[bytes, tuple[float, int, Hypothesis]] = {}
            for minus, place, row in sorted(rank for rank in ranks if rank[0] != float("inf")):
                end = ends[row]
                key = words[row, :end].tobytes()
                if key not in distinct:
                    # Copies: views would keep the whole pass in memory, and fairseq-generate
                    # changes them in place, which inference tensors forbid.
                    own = tokens[row, :end].clone(), -minus, log_probs[row, :end].clone()
                    distinct[key] = minus, place, Hypothesis(*own, iterations[row])
                if len(distinct) == self.most:
                    break
            result.append(distinct)
        return result

"""Scores candidates with an exported teacher, many in each teacher-forced pass."""

from collections.abc import Mapping

import numpy as np

from fairseq_nart.generation.normalization import normalize
from fairseq_nart.generation.passes import ELEMENTS_PER_PASS, runs
from fairseq_nart.runtime.folder import Scorer
from fairseq_nart.runtime.graphs import Graph
from fairseq_nart.runtime.states import Bools, Floats, Ints


class TeacherScorer:
    """The graphs `teacher_encode` and `teacher_score`."""

    def __init__(self, graphs: Mapping[str, Graph], about: Scorer, eos: int) -> None:
        self.encode, self.score = graphs["teacher_encode"], graphs["teacher_score"]
        self.about = about
        self.eos = eos

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest array of `teacher_encode` for `source` tokens."""
        return source * max(self.about.ffn_dim, self.about.heads * source)

    def row_elements(self, length: int, source: int) -> int:
        """Elements of the largest array for one candidate of `length` tokens."""
        about = self.about
        wide = max(about.vocab_size, about.ffn_dim, about.heads * max(length, source))
        return length * wide

    def __call__(
        self, source: Ints, mask: Bools, candidates: list[list[list[int]]]
    ) -> list[list[float]]:
        """source and mask (B,S), the candidates of each sentence -> their scores.

        The source is encoded once.
        """
        memory = self.encode(tokens=source)["memory"]
        rows = [(sentence, one) for sentence, some in enumerate(candidates) for one in some]
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row][1]))
        sizes = [len(rows[row][1]) for row in order]
        totals = np.empty(len(rows), np.float32)

        def elements(length: int) -> int:
            return self.row_elements(length, mask.shape[1])

        for part in runs(sizes, elements, ELEMENTS_PER_PASS["cpu"]):
            some, width = order[part], sizes[part.start]
            tokens = np.full((len(some), width), self.eos)
            for place, row in enumerate(some):
                tokens[place, : sizes[part.start + place]] = rows[row][1]
            real = np.arange(width) < np.array(sizes[part])[:, None]
            # The candidates of a single sentence share its keys and values.
            which = slice(None) if len(mask) == 1 else [rows[row][0] for row in some]
            totals[some] = self._totals(memory[which], mask[which], tokens, real)
        about, result, row = self.about, [], 0
        for each in candidates:
            pairs = zip(totals[row : row + len(each)].tolist(), map(len, each), strict=True)
            result.append([normalize(*pair, about.normalization, about.alpha) for pair in pairs])
            row += len(each)
        return result

    def _totals(self, memory: Floats, mask: Bools, tokens: Ints, real: Bools) -> Floats:
        """(R,) summed log-probabilities of tokens (R,T) where `real`."""
        previous = np.concatenate([np.full((len(tokens), 1), self.eos), tokens[:, :-1]], axis=1)
        (places,) = np.nonzero(real.reshape(-1))
        log_probs = self.score(
            memory=memory,
            source_mask=mask,
            previous=previous,
            places=places,
            targets=tokens.reshape(-1)[places],
        )["log_probs"]
        spread = np.zeros(real.shape, np.float32)
        spread[real] = log_probs
        totals: Floats = spread.sum(axis=1)
        return totals

"""Scores candidates with an exported teacher, many in each teacher-forced pass."""

from collections.abc import Mapping

import numpy as np

from fairseq_nart.generation.normalization import normalize
from fairseq_nart.generation.passes import ELEMENTS_PER_PASS, runs
from fairseq_nart.runtime.candidates import Candidates
from fairseq_nart.runtime.folder import Scorer
from fairseq_nart.runtime.graphs import Graph
from fairseq_nart.runtime.states import Bools, Floats, Ints


class TeacherScorer:
    """The graphs `teacher_encode` and `teacher_score`."""

    def __init__(self, graphs: Mapping[str, Graph], about: Scorer, eos: int) -> None:
        self.encode, self.score = graphs["teacher_encode"], graphs["teacher_score"]
        self.about = about
        self.eos = eos

    def __call__(self, source: Ints, mask: Bools, candidates: Candidates, exists: Bools) -> Floats:
        """source and mask (B,S), exists (B,W) -> (B·W,) scores, -inf where nothing exists.

        The source is encoded once, and equal candidates of a sentence are scored once.
        """
        memory = self.encode(tokens=source)["memory"]
        width = exists.shape[1]
        (rows,) = np.nonzero(exists.reshape(-1))
        each = np.concatenate([rows[:, None] // width, candidates.tokens[rows]], axis=1)
        distinct, first, which = np.unique(each, axis=0, return_index=True, return_inverse=True)
        lengths = candidates.mask[rows[first]].sum(axis=1)
        order = np.argsort(-lengths, kind="stable")
        totals = np.empty(len(distinct), np.float32)
        sizes = lengths[order].tolist()
        vocabulary = self.about.vocab_size
        for part in runs(sizes, lambda length: length * vocabulary, ELEMENTS_PER_PASS["cpu"]):
            some = order[part]
            sentences, tokens = distinct[some, 0], distinct[some, 1 : sizes[part.start] + 1]
            one = len(mask) == 1  # its rows share its keys and values
            totals[some] = self._totals(
                memory if one else memory[sentences],
                mask if one else mask[sentences],
                tokens,
                np.arange(tokens.shape[1]) < lengths[some][:, None],
            )
        scores = np.full(exists.size, -np.inf, np.float32)
        about = self.about
        every = normalize(totals, lengths, about.normalization, about.alpha)
        scores[rows] = every[which.reshape(-1)]
        return scores

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

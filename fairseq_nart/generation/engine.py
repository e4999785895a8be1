"""Parallel decoding: encode, propose lengths, decode, clean, rescore, pick. The only path there is.

fairseq-generate, fairseq-interactive, validation and the Python API all call `Engine`.
N candidates per sentence; the BN rows are those of the first sentence, then of the next.
"""

import bisect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.generation.clean import Candidates, finish
from fairseq_nart.generation.options import MANY, DecodingOptions, require_understood, typed
from fairseq_nart.generation.passes import (
    MOST_ELEMENTS,
    elements_per_pass,
    gibibytes,
    plan,
    runs,
)
from fairseq_nart.generation.ranking import Hypothesis, Ranking, ScoredPass
from fairseq_nart.generation.rescore import TeacherRescorer, normalize
from fairseq_nart.layers.states import EncoderStates, Proposal

__all__ = ["Engine", "Hypothesis"]


class Engine:
    """Decodes batches with one model and, where given, its teacher, in passes of bounded memory.

    ValueError where an option is set that means nothing to the model, or whose value takes too much
    memory for any sentence.
    """

    def __init__(
        self,
        model: Any,
        *,
        eos: int,
        pad: int,
        options: DecodingOptions | None = None,
        rescorer: TeacherRescorer | None = None,
    ) -> None:
        self.options = options or DecodingOptions()
        require_understood(self.options, model.decoding_options, type(model).__name__)
        self.model = model
        self.eos = eos
        self.pad = pad
        self.rescorer = rescorer
        self._require_room(1, 1)

    def __call__(self, source_tokens: Tensor, most: int | None = None) -> list[list[Hypothesis]]:
        """source_tokens (B,S), padded on either side -> per sentence its distinct hypotheses, best
        first; at most `most` of them, where it is given. An empty source (EOS alone) has the empty
        translation.

        ValueError for a sentence, or for a batch's hypotheses, that would take too much memory.
        """
        if self.rescorer is not None:
            self.rescorer.follow(next(self.model.parameters()))
        real = source_tokens.ne(self.pad)
        budget = elements_per_pass(source_tokens.device)
        lower = [typed(name) for name in MANY if name in self.model.decoding_options]
        ranking = Ranking(most, " or ".join(lower))
        parts = list(runs(real.sum(dim=1).tolist(), self._sentence_elements, budget))
        for part in parts:
            tokens = source_tokens[part]
            if len(parts) > 1:  # as wide as its own sentences
                tokens = tokens[:, real[part].any(dim=0)]
            self._translate(tokens, budget, ranking)
        return ranking.sentences

    def _translate(self, source_tokens: Tensor, budget: int, ranking: Ranking) -> None:
        """As `__call__`, for sentences that are encoded together."""
        states, proposal, encoded = self._start(source_tokens)
        lengths, source = proposal.lengths.tolist(), source_tokens.size(1)
        self._require_room(max(map(max, lengths)), source)

        def elements(length: int) -> int:
            row: int = self.model.row_elements(length, source, self.options)
            return row

        for part, passes in plan(lengths, proposal.valid.tolist(), elements, budget):
            decoded = (self._decode(part, columns, states, proposal, encoded) for columns in passes)
            ranking.add(part.stop - part.start, decoded)

    @torch.inference_mode()  # a sentence alone takes 8 % less than in no_grad
    def _start(self, source_tokens: Tensor) -> tuple[EncoderStates, Proposal, Any]:
        """The source as the model reads it, its targets, and the source as the teacher reads it."""
        states = self.model.encode(source_tokens)
        encoded = None
        if self.rescorer is not None:
            encoded = self.rescorer.encode(source_tokens, states.lengths)
        return states, self.model.propose(states, self.options), encoded

    @torch.inference_mode()
    def _decode(
        self,
        part: slice,
        columns: list[int],
        states: EncoderStates,
        proposal: Proposal,
        encoded: Any,
    ) -> ScoredPass:
        """One pass: some columns of the proposal for some consecutive sentences."""
        states = states.select(part)
        decoded = self.model.decode(
            states,
            proposal.select(part, columns),
            self.options,
            log_probs=self.rescorer is None,
        )
        width = decoded.valid.size(1)
        empty = (states.lengths == 1).repeat_interleave(width)  # (BN,)
        done = finish(
            decoded.tokens.masked_fill(empty[:, None], self.eos),
            decoded.log_probs.float(),
            decoded.mask,
            eos=self.eos,
            pad=self.pad,
            dedup=self.options.dedup,
            longest=self.model.longest_target,
        )
        if self.rescorer is None:
            total, length = done.log_probs.sum(1), done.mask.sum(1)
            score = normalize(total, length, self.model.own_score, alpha=0.0)
        else:
            sentences = torch.arange(part.start, part.stop, device=empty.device)
            log_probs = self.rescorer.log_probs(encoded, sentences.repeat_interleave(width), done)
            done = Candidates(done.tokens, done.mask, log_probs)
            score = self.rescorer.score(log_probs, done.mask)
        score = score.view_as(decoded.valid).masked_fill(~decoded.valid, float("-inf"))
        taken = torch.zeros(len(empty), dtype=torch.long, device=empty.device) + decoded.iterations
        return ScoredPass(columns, done, score, taken.view_as(decoded.valid))

    def _sentence_elements(self, source: int) -> int:
        """Those of the largest tensor of a sentence of `source` tokens, before it is decoded."""
        own: int = self.model.sentence_elements(source, self.options)
        return own if self.rescorer is None else max(own, self.rescorer.sentence_elements(source))

    def _require_room(self, length: int, source: int) -> None:
        """ValueError where a sentence of `source` tokens, or a target of `length` positions of it,
        cannot be computed at all; it names the option to lower, and how far."""

        def elements(options: DecodingOptions) -> int:
            row: int = self.model.row_elements(length, source, options)
            sentence: int = self.model.sentence_elements(source, options)
            return max(row, sentence)

        teacher = 0
        if self.rescorer is not None:
            sentence = self.rescorer.sentence_elements(source)
            teacher = max(sentence, self.rescorer.row_elements(length, source))
        needed = max(teacher, elements(self.options))
        if needed <= MOST_ELEMENTS:
            return
        room = f"{gibibytes(needed)} of memory in one piece, more than {gibibytes(MOST_ELEMENTS)}"
        option, fits = self.model.widest_option, 0
        if option is not None and teacher <= MOST_ELEMENTS:

            def elements_with(value: int) -> int:
                changes: dict[str, Any] = {option: value}
                return elements(replace(self.options, **changes))

            # Those that fit come first: there are as many as the largest of them says.
            values = range(1, getattr(self.options, option))
            fits = bisect.bisect_right(values, MOST_ELEMENTS, key=elements_with)
        if fits:
            raise ValueError(
                f"{typed(option)} {values.stop} takes {room}: type at most {fits} for a sentence "
                f"of {source} tokens"
            )
        raise ValueError(
            f"a sentence of {source} tokens and its translation of {length} take {room}: leave "
            "the sentence out"
        )

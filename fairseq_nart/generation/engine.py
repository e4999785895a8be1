"""Parallel decoding: encode, propose targets, decode, clean up, rescore and rank.

fairseq-generate, fairseq-interactive, validation and the Python API all call `Engine`.
A batch has B·N rows; the N candidates of a sentence are adjacent.
"""

import bisect
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.errors import UserError
from fairseq_nart.generation.clean import Candidates, finish
from fairseq_nart.generation.normalization import normalize
from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.generation.passes import (
    MOST_ELEMENTS,
    elements_per_pass,
    gibibytes,
    plan,
    runs,
)
from fairseq_nart.generation.ranking import Hypothesis, Ranking, ScoredPass
from fairseq_nart.generation.system import Request, Rescorer, System
from fairseq_nart.layers.states import EncoderStates, Proposal
from fairseq_nart.options import require_default, typed

__all__ = ["Engine", "Hypothesis"]


class Engine:
    """Decodes batches with one model and, if given, a teacher, in passes of bounded memory.

    UserError if an option is set that has no effect on the model, or whose value needs too much
    memory for any sentence.
    """

    def __init__(
        self,
        model: System,
        *,
        eos: int,
        pad: int,
        options: DecodingOptions | None = None,
        rescorer: Rescorer | None = None,
    ) -> None:
        self.options = options or model.Decoding()
        why = f"has no effect on this {type(model).__name__}: leave it out"
        require_default(self.options, model.idle_options, why)
        self.model = model
        self.eos = eos
        self.pad = pad
        self.rescorer = rescorer
        self._require_room(1, 1)

    def __call__(self, source_tokens: Tensor, most: int | None = None) -> list[list[Hypothesis]]:
        """source_tokens (B,S), padded on either side -> the distinct hypotheses of each sentence,
        best first, at most `most` if given. The translation of an empty source (EOS only) is empty.

        UserError if a sentence, or the hypotheses of the batch, would need too much memory.
        """
        if self.rescorer is not None:
            self.rescorer.follow(next(self.model.parameters()))
        real = source_tokens.ne(self.pad)
        budget = elements_per_pass(source_tokens.device)
        lower = [typed(x.name) for x in fields(self.options) if "candidates" in x.metadata]
        ranking = Ranking(most, " or ".join(lower))
        parts = list(runs(real.sum(dim=1).tolist(), self._sentence_elements, budget))
        for part in parts:
            tokens = source_tokens[part]
            if len(parts) > 1 or len(tokens) == 1:  # drop columns that are padding in this part
                tokens = tokens[:, real[part].any(dim=0)]
            self._translate(tokens, budget, ranking)
        return ranking.sentences

    def _translate(self, source_tokens: Tensor, budget: int, ranking: Ranking) -> None:
        """Decodes sentences that are encoded together and adds their hypotheses to `ranking`."""
        states, proposal, encoded = self._start(source_tokens)
        lengths, source = proposal.lengths.tolist(), source_tokens.size(1)
        self._require_room(max(map(max, lengths)), source)

        def elements(length: int) -> int:
            row: int = self.model.row_elements(length, source, self.options)
            return row

        for part, passes in plan(lengths, proposal.valid.tolist(), elements, budget):
            decoded = (self._decode(part, columns, states, proposal, encoded) for columns in passes)
            ranking.add(part.stop - part.start, decoded)

    @torch.inference_mode()  # for single sentences 8 % faster than no_grad
    def _start(self, source_tokens: Tensor) -> tuple[EncoderStates, Proposal, Any]:
        """Returns encoder states, proposed targets, and the source as encoded by the teacher."""
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
        """One pass: the `columns` of the proposal for the consecutive sentences of `part`."""
        states = states.select(part)
        proposed = proposal.select(part, columns)
        decoded = self.model.decode(
            Request(states, proposed, self.options, log_probs=self.rescorer is None)
        )
        width = decoded.valid.size(1)
        empty = (states.lengths == 1).repeat_interleave(width)  # (BN,)
        done = finish(
            decoded.tokens.masked_fill(empty[:, None], self.eos),
            decoded.log_probs.float(),
            decoded.mask,
            eos=self.eos,
            pad=self.pad,
            dedup=getattr(self.options, "dedup", False),
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
        iterations = torch.zeros(len(empty), dtype=torch.long, device=empty.device)
        iterations += decoded.iterations
        return ScoredPass(columns, done, score, iterations.view_as(decoded.valid))

    def _sentence_elements(self, source: int) -> int:
        """Elements of the largest tensor of a sentence of `source` tokens before decoding."""
        own: int = self.model.sentence_elements(source, self.options)
        return own if self.rescorer is None else max(own, self.rescorer.sentence_elements(source))

    def _require_room(self, length: int, source: int) -> None:
        """UserError if a sentence of `source` tokens, or one target of `length` positions for it,
        exceeds the memory limit. The message says which option to lower, and to what value."""

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
        room = f"{gibibytes(needed)} for one tensor, more than {gibibytes(MOST_ELEMENTS)}"
        option, fits = self.model.widest_option, 0
        if option is not None and teacher <= MOST_ELEMENTS:

            def elements_with(value: int) -> int:
                changes: dict[str, Any] = {option: value}
                return elements(replace(self.options, **changes))

            # Memory grows with the value and values start at 1: the count is the largest that fits.
            values = range(1, getattr(self.options, option))
            fits = bisect.bisect_right(values, MOST_ELEMENTS, key=elements_with)
        if option is not None and fits:
            raise UserError(
                f"{typed(option)} {values.stop} needs {room}: type at most {fits} for a sentence "
                f"of {source} token{'s' if source > 1 else ''}"
            )
        raise UserError(
            f"a sentence of {source} tokens and its translation of {length} need {room}: leave "
            "the sentence out"
        )

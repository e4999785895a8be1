"""Scores candidates with a teacher, many in each teacher-forced pass.

Works with any fairseq encoder-decoder that scores text from left to right.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.errors import UserError
from fairseq_nart.generation.clean import Candidates
from fairseq_nart.generation.normalization import normalize
from fairseq_nart.generation.passes import elements_per_pass, runs

FEATURES_FIRST = (
    "fairseq.models.transformer.transformer_decoder.TransformerDecoderBase.forward",
    "fairseq.models.lstm.LSTMDecoder.forward",
)
"""`forward` methods that only call `extract_features`, then `output_layer`. Their output layer can
skip padding: two of five positions when 19 lengths are scored."""


@dataclass(frozen=True)
class EncodedSource:
    """A batch of sources, encoded by a teacher."""

    states: Any
    """The output of its encoder."""
    width: int
    """S, padding included."""


class TeacherRescorer:
    """Scores candidates with an autoregressive teacher that shares the student's dictionaries."""

    def __init__(self, teacher: Any, eos: int, normalization: str, alpha: float) -> None:
        self.teacher = teacher.eval()
        self.eos = eos
        self.normalization = normalization
        self.alpha = alpha
        self._vocabulary: int = len(teacher.decoder.dictionary)
        self._heads: int = max(getattr(module, "num_heads", 1) for module in teacher.modules())
        # The widest vector of a position: the largest input dimension of a matrix.
        self._dim: int = max(x.size(-1) for x in teacher.parameters() if x.dim() > 1)

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest tensor of `encode` for a sentence of `source` tokens."""
        return source * max(self._dim, self._heads * source)

    def row_elements(self, length: int, source: int) -> int:
        """Elements of the largest tensor for scoring one candidate of `length` tokens. fairseq's
        attention stores its weights."""
        wide = max(self._vocabulary, self._dim, self._heads * max(length, source))
        return max(length * wide, source * self._dim)

    def require_positions(self, needed: tuple[int, int], option: str) -> None:
        """UserError if the teacher has fewer source or target positions than `needed`."""
        known = self.teacher.max_positions()
        if any(theirs < own for theirs, own in zip(known, needed)):
            raise UserError(
                f"{option}: the teacher has {known[0]} source and {known[1]} target positions, the "
                f"student {needed[0]} and {needed[1]}: type --max-source-positions "
                f"{min(known[0], needed[0])} --max-target-positions {min(known[1], needed[1])}"
            )

    def follow(self, parameter: Tensor) -> None:
        """Moves the teacher to the device and precision of the student's `parameter`."""
        own = next(self.teacher.parameters())
        if (own.device, own.dtype) != (parameter.device, parameter.dtype):
            self.teacher.to(device=parameter.device, dtype=parameter.dtype)

    def encode(self, source_tokens: Tensor, lengths: Tensor) -> EncodedSource:
        """source_tokens (B,S) as fairseq collates them, lengths (B,) -> the encoded source.

        UserError if a source is too long for the teacher.
        """
        self._require_room("source", source_tokens, self.teacher.max_positions()[0])
        states = self.teacher.encoder(source_tokens, src_lengths=lengths)
        return EncodedSource(states, source_tokens.size(1))

    def log_probs(self, encoded: EncodedSource, rows: Tensor, candidates: Candidates) -> Tensor:
        """(BN,T) log-probability of each candidate token, 0 at padding.

        Candidate r translates the encoded sentence rows[r]. Equal candidates of a sentence are
        scored once: many of a hundred fertility samples give the same translation.
        """
        each = torch.cat([rows[:, None], candidates.tokens], dim=1)
        distinct, which = each.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        real = torch.zeros_like(distinct[:, 1:], dtype=torch.bool)
        real[which] = candidates.mask  # equal candidates have equal masks
        lengths, order = real.sum(dim=1).sort(descending=True)
        widths = lengths.tolist()
        log_probs = candidates.log_probs.new_zeros(real.shape, dtype=torch.float32)
        for part in runs(
            widths,
            lambda length: self.row_elements(length, encoded.width),
            elements_per_pass(rows.device),
        ):
            some, width = order[part], widths[part.start]
            tokens, mask = distinct[some, 1 : width + 1], real[some, :width]
            every = self.distributions(encoded, distinct[some, 0], tokens, mask)[0]  # (P,V)
            chosen = every.gather(1, tokens[mask][:, None]).squeeze(1).float()
            log_probs[some, :width] = chosen.new_zeros(mask.shape).masked_scatter(mask, chosen)
        return log_probs[which]

    def distributions(
        self, encoded: EncodedSource, rows: Tensor, tokens: Tensor, real: Tensor | None = None
    ) -> Tensor:
        """(BN,T,V) next-token log-probabilities after every proper prefix of `tokens` (BN,T), the
        empty one included; with `real` (BN,T) bool only those of its P True positions, (1,P,V).

        Row r translates the encoded sentence rows[r]. UserError if a row is too long for the
        teacher.
        """
        self._require_room("candidate", tokens, self.teacher.max_positions()[1])
        previous = torch.cat([tokens.new_full((len(tokens), 1), self.eos), tokens[:, :-1]], dim=1)
        # A copy, because fairseq's convolutional encoder reorders the dictionary it is given.
        states = self.teacher.encoder.reorder_encoder_out(copy.copy(encoded.states), rows)
        decoder, forward = self.teacher.decoder, type(self.teacher.decoder).forward
        if real is not None and f"{forward.__module__}.{forward.__qualname__}" in FEATURES_FIRST:
            features, more = decoder.extract_features(previous, encoder_out=states)
            output = decoder.output_layer(features[real][None]), more
        else:
            logits, more = decoder(previous, encoder_out=states)
            output = logits if real is None else logits[real][None], more
        # computed in fp32 by fairseq
        log_probs: Tensor = self.teacher.get_normalized_probs(output, log_probs=True)
        return log_probs

    def _require_room(self, what: str, tokens: Tensor, most: int) -> None:
        if tokens.size(1) > most:
            raise UserError(
                f"a {what} of {tokens.size(1)} tokens is too long for the teacher, which has "
                f"{most} positions: leave the sentence out, or --rescore-with"
            )

    def score(self, log_probs: Tensor, mask: Tensor) -> Tensor:
        """log_probs and mask (BN,T) -> (BN,) normalised scores."""
        return normalize(log_probs.sum(dim=1), mask.sum(dim=1), self.normalization, self.alpha)

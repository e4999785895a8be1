"""Teacher scores of finished candidates: teacher-forced passes over many of them at once.

Works with any fairseq encoder-decoder that scores text left to right.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.generation.clean import Candidates
from fairseq_nart.generation.passes import elements_per_pass, runs

DEFAULT_ALPHA = {"gnmt": 0.6, "mean": None, "sum": None, "reward": 2.0}
"""The rules of `normalize`, with what alpha is where none is given; None: the rule has none."""


def alpha_of(rule: str, given: float | None) -> float:
    """The alpha of a rule; ValueError where one is given to a rule that has none."""
    default = DEFAULT_ALPHA[rule]
    if default is None and given is not None:
        raise ValueError(
            f"--rescore-alpha means nothing to --rescore-normalization {rule}: leave it out"
        )
    return (default or 0.0) if given is None else given


def normalize(total: Tensor, length: Tensor, rule: str, alpha: float) -> Tensor:
    """Sentence scores from summed log-probabilities; both arguments of one shape.

    `gnmt`: sum / ((5 + L) / 6)^alpha (Wu et al. 2016, arXiv 1609.08144, eq. 14), `mean`: sum / L,
    `sum`: as it is, `reward`: sum + alpha L (Murray and Chiang 2018, arXiv 1808.10006).
    L counts the EOS.
    """
    if rule == "gnmt":
        return total / ((5 + length) / 6) ** alpha
    if rule == "mean":
        return total / length
    if rule == "sum":
        return total
    if rule == "reward":
        return total + alpha * length
    raise ValueError(f"unknown normalisation {rule!r}: one of {', '.join(DEFAULT_ALPHA)}")


FEATURES_FIRST = (
    "fairseq.models.transformer.transformer_decoder.TransformerDecoderBase.forward",
    "fairseq.models.lstm.LSTMDecoder.forward",
)
"""Of decoders that do nothing but `extract_features`, then `output_layer`, which then need not work
for padding: where 19 lengths are scored, two positions of five."""


@dataclass(frozen=True)
class EncodedSource:
    """A batch of sources as a teacher has read them."""

    states: Any
    """What its encoder returned."""
    width: int
    """S, padding counted."""


class TeacherRescorer:
    """Scores candidates with an autoregressive teacher that shares the student's dictionaries."""

    def __init__(self, teacher: Any, eos: int, normalization: str, alpha: float) -> None:
        self.teacher = teacher.eval()
        self.eos = eos
        self.normalization = normalization
        self.alpha = alpha
        self._vocabulary: int = len(teacher.decoder.dictionary)
        self._heads: int = max(getattr(module, "num_heads", 1) for module in teacher.modules())
        # The widest vector of a position: what some matrix multiplies.
        self._dim: int = max(x.size(-1) for x in teacher.parameters() if x.dim() > 1)

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest tensor that `encode` fills for a sentence of `source` tokens."""
        return source * max(self._dim, self._heads * source)

    def row_elements(self, length: int, source: int) -> int:
        """Those that scoring one candidate of `length` tokens fills; fairseq's attention keeps its
        weights."""
        wide = max(self._vocabulary, self._dim, self._heads * max(length, source))
        return max(length * wide, source * self._dim)

    def follow(self, parameter: Tensor) -> None:
        """Moves the teacher to the device and precision of the student's `parameter`."""
        own = next(self.teacher.parameters())
        if (own.device, own.dtype) != (parameter.device, parameter.dtype):
            self.teacher.to(device=parameter.device, dtype=parameter.dtype)

    def encode(self, source_tokens: Tensor, lengths: Tensor) -> EncodedSource:
        """source_tokens (B,S) as fairseq collates them, lengths (B,).

        ValueError for a source that is longer than the teacher can read.
        """
        self._require_room("source", source_tokens, self.teacher.max_positions()[0])
        states = self.teacher.encoder(source_tokens, src_lengths=lengths)
        return EncodedSource(states, source_tokens.size(1))

    def log_probs(self, encoded: EncodedSource, rows: Tensor, candidates: Candidates) -> Tensor:
        """(BN,T) log-probability of each candidate token, 0 at padding.

        Candidate r translates the encoded sentence rows[r]. Equal ones of a sentence are scored
        once: of a hundred fertilities that are drawn many say the same.
        """
        each = torch.cat([rows[:, None], candidates.tokens], dim=1)
        distinct, which = each.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        real = torch.zeros_like(distinct[:, 1:], dtype=torch.bool)
        real[which] = candidates.mask  # equal ones have the same
        lengths, order = real.sum(dim=1).sort()
        widths = lengths.tolist()
        log_probs = candidates.log_probs.new_zeros(real.shape, dtype=torch.float32)
        for part in runs(
            widths,
            lambda length: self.row_elements(length, encoded.width),
            elements_per_pass(rows.device),
        ):
            some, width = order[part], widths[part.stop - 1]
            tokens, mask = distinct[some, 1 : width + 1], real[some, :width]
            said = self.distributions(encoded, distinct[some, 0], tokens, mask)[0]  # (P,V)
            chosen = said.gather(1, tokens[mask][:, None]).squeeze(1).float()
            log_probs[some, :width] = chosen.new_zeros(mask.shape).masked_scatter(mask, chosen)
        return log_probs[which]

    def distributions(
        self, encoded: EncodedSource, rows: Tensor, tokens: Tensor, real: Tensor | None = None
    ) -> Tensor:
        """(BN,T,V) log-probabilities of what may follow each prefix, none too, of `tokens` (BN,T);
        with `real` (BN,T) bool (1,P,V), those of the P positions that it has.

        Row r translates the encoded sentence rows[r]. ValueError for one that is longer than
        the teacher can say.
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
            raise ValueError(
                f"a {what} of {tokens.size(1)} tokens is too long for the teacher, which knows "
                f"{most} positions: leave the sentence out, or --rescore-with"
            )

    def score(self, log_probs: Tensor, mask: Tensor) -> Tensor:
        """log_probs and mask (BN,T) -> (BN,) normalised scores."""
        return normalize(log_probs.sum(dim=1), mask.sum(dim=1), self.normalization, self.alpha)

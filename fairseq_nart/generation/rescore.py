"""Teacher scores of finished candidates: one teacher-forced pass over all of them at once.

Works with any fairseq encoder-decoder that scores text left to right.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.generation.clean import Candidates

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


class TeacherRescorer:
    """Scores candidates with an autoregressive teacher that shares the student's dictionaries."""

    def __init__(self, teacher: Any, eos: int, normalization: str, alpha: float) -> None:
        self.teacher = teacher.eval()
        self.eos = eos
        self.normalization = normalization
        self.alpha = alpha

    def follow(self, parameter: Tensor) -> None:
        """Moves the teacher to the device and precision of the student's `parameter`."""
        own = next(self.teacher.parameters())
        if (own.device, own.dtype) != (parameter.device, parameter.dtype):
            self.teacher.to(device=parameter.device, dtype=parameter.dtype)

    def encode(self, source_tokens: Tensor, lengths: Tensor) -> Any:
        """source_tokens (B,S) as fairseq collates them, lengths (B,) -> the teacher's states.

        ValueError for a source that is longer than the teacher can read.
        """
        self._require_room("source", source_tokens, self.teacher.max_positions()[0])
        return self.teacher.encoder(source_tokens, src_lengths=lengths)

    def log_probs(self, encoded: Any, rows: Tensor, candidates: Candidates) -> Tensor:
        """(BN,T) log-probability of each candidate token, 0 at padding.

        Candidate r translates the encoded sentence rows[r]. Equal ones of a sentence are scored
        once: of a hundred fertilities that are drawn many say the same.
        """
        each = torch.cat([rows[:, None], candidates.tokens], dim=1)
        distinct, which = each.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        tokens = distinct[:, 1:]
        real = torch.zeros_like(tokens, dtype=torch.bool)
        real[which] = candidates.mask  # equal ones have the same
        said = self.distributions(encoded, distinct[:, 0], tokens, real)[0]  # (P,V)
        chosen = said.gather(1, tokens[real][:, None]).squeeze(1).float()
        return chosen.new_zeros(tokens.shape).masked_scatter(real, chosen)[which]

    def distributions(
        self, encoded: Any, rows: Tensor, tokens: Tensor, real: Tensor | None = None
    ) -> Tensor:
        """(BN,T,V) log-probabilities of what may follow each prefix, none too, of `tokens` (BN,T);
        with `real` (BN,T) bool (1,P,V), those of the P positions that it has.

        Row r translates the encoded sentence rows[r]. ValueError for one that is longer than
        the teacher can say.
        """
        self._require_room("candidate", tokens, self.teacher.max_positions()[1])
        previous = torch.cat([tokens.new_full((len(tokens), 1), self.eos), tokens[:, :-1]], dim=1)
        # A copy, because fairseq's convolutional encoder reorders the dictionary it is given.
        states = self.teacher.encoder.reorder_encoder_out(copy.copy(encoded), rows)
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

"""Parallel decoding: encode, propose lengths, decode, clean, rescore, pick. The only path there is.

fairseq-generate, fairseq-interactive, validation and the Python API all call `Engine`.
N candidates per sentence; the BN rows are those of the first sentence, then of the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.generation.clean import Candidates, finish
from fairseq_nart.generation.options import DecodingOptions, require_understood
from fairseq_nart.generation.rescore import TeacherRescorer, normalize
from fairseq_nart.layers.states import Proposal

LOGITS_PER_PASS = {"cpu": 2**23, "accelerator": 2**28}
"""Most rows x positions x vocabulary entries decoded at once: 32 MiB of fp32 logits on a CPU, where
1 GiB took 1.6 times as long, and 1 GiB on a GPU (there not measured)."""


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


class Engine:
    """Decodes batches with one model and, where given, its teacher.

    ValueError where an option is set that means nothing to the model.
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

    def __call__(self, source_tokens: Tensor) -> list[list[Hypothesis]]:
        """source_tokens (B,S), padded on either side -> per sentence its distinct hypotheses, best
        first. An empty source (EOS alone) has the empty translation."""
        if self.rescorer is not None:
            self.rescorer.follow(next(self.model.parameters()))
        with torch.inference_mode():  # a sentence alone takes 8 % less than in no_grad
            found = self._candidates(source_tokens)
        return self._rank(*found)

    def _candidates(self, source_tokens: Tensor) -> tuple[Candidates, Tensor, Tensor]:
        """All rows, their scores (B,N), -inf where a row means nothing, and iterations (B,N)."""
        states = self.model.encode(source_tokens)
        proposal = self.model.propose(states, self.options)
        empty = states.lengths == 1  # (B,)
        sentences = torch.arange(len(empty), device=empty.device)
        encoded = None
        if self.rescorer is not None:
            encoded = self.rescorer.encode(source_tokens, states.lengths)
        parts, scores, iterations = [], [], []
        for part in self._passes(proposal):
            decoded = self.model.decode(
                states.select(part),
                proposal.select(part),
                self.options,
                log_probs=self.rescorer is None,
            )
            row = sentences[part].repeat_interleave(decoded.valid.size(1))
            tokens = decoded.tokens.masked_fill(empty[row, None], self.eos)
            done = finish(
                tokens,
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
                log_probs = self.rescorer.log_probs(encoded, row, done)
                done = Candidates(done.tokens, done.mask, log_probs)
                score = self.rescorer.score(log_probs, done.mask)
            parts.append(done)
            scores.append(score.view_as(decoded.valid).masked_fill(~decoded.valid, float("-inf")))
            taken = torch.zeros_like(row) + decoded.iterations
            iterations.append(taken.view_as(decoded.valid))
        return self._join(parts), torch.cat(scores), torch.cat(iterations)

    def _passes(self, proposal: Proposal) -> Iterator[slice]:
        """Slices of the sentences whose logits, and those of a teacher, fit into one pass."""
        lengths = proposal.lengths
        rows = lengths.size(1) * (proposal.candidates if self.rescorer else 1)
        widest = rows * int(lengths.max()) * self.model.vocab_size
        device = "cpu" if lengths.device.type == "cpu" else "accelerator"
        step = max(1, LOGITS_PER_PASS[device] // widest)
        for start in range(0, len(lengths), step):
            yield slice(start, start + step)

    def _join(self, parts: list[Candidates]) -> Candidates:
        if len(parts) == 1:
            return parts[0]
        width = max(part.tokens.size(1) for part in parts)

        def padded(tensors: list[Tensor], value: float) -> Tensor:
            pad = torch.nn.functional.pad
            return torch.cat([pad(x, (0, width - x.size(1)), value=value) for x in tensors])

        return Candidates(
            padded([part.tokens for part in parts], self.pad),
            padded([part.mask for part in parts], False),
            padded([part.log_probs for part in parts], 0.0),
        )

    def _rank(
        self, candidates: Candidates, scores: Tensor, iterations: Tensor
    ) -> list[list[Hypothesis]]:
        batch, window = scores.shape
        order = scores.argsort(dim=1, descending=True, stable=True)
        # One transfer each, then plain Python: no synchronisation per sentence. Copies, because
        # fairseq-generate changes them in place, which inference mode forbids.
        tokens = candidates.tokens.to("cpu", copy=True)
        log_probs = candidates.log_probs.to("cpu", copy=True)
        ends = candidates.mask.sum(dim=1).tolist()
        best_first, values, taken = order.tolist(), scores.tolist(), iterations.tolist()
        translations = []
        for sentence in range(batch):
            hypotheses: dict[tuple[int, ...], Hypothesis] = {}
            for column in best_first[sentence]:
                value = values[sentence][column]
                if value == float("-inf"):
                    continue
                row = sentence * window + column
                end = ends[row]
                key = tuple(tokens[row, :end].tolist())
                if key not in hypotheses:
                    hypotheses[key] = Hypothesis(
                        tokens=tokens[row, :end],
                        score=value,
                        token_scores=log_probs[row, :end],
                        iterations=taken[sentence][column],
                    )
            translations.append(list(hypotheses.values()))
        return translations

"""Parallel decoding: encode, propose lengths, decode, clean, rescore, pick. The only path there is.

fairseq-generate, fairseq-interactive, validation and the Python API all call `Engine`.
N length candidates per sentence; the R = B N rows are those of the first sentence, and so on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.generation.clean import Candidates, finish
from fairseq_nart.generation.rescore import TeacherRescorer, normalize
from fairseq_nart.layers.lengths import candidate_window

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
    teacher, else the system's mean log-probability."""
    token_scores: Tensor
    """(L,) log-probabilities of the tokens by the one who ranked, in nats."""


class Engine:
    """Decodes batches with one model and, where given, its teacher.

    `length_candidates` is the window width N (odd); `dedup` collapses repeated tokens.
    """

    def __init__(
        self,
        model: Any,
        *,
        eos: int,
        pad: int,
        length_candidates: int = 1,
        dedup: bool = False,
        rescorer: TeacherRescorer | None = None,
    ) -> None:
        candidate_window(torch.ones(1), length_candidates, 1)  # refuses an even or zero number
        self.model = model
        self.eos = eos
        self.pad = pad
        self.length_candidates = length_candidates
        self.dedup = dedup
        self.rescorer = rescorer

    @torch.no_grad()
    def __call__(self, source_tokens: Tensor) -> list[list[Hypothesis]]:
        """source_tokens (B,S), padded on either side -> per sentence its distinct hypotheses, best
        first. An empty source (EOS alone) has the empty translation."""
        candidates, scores = self._candidates(source_tokens)
        return self._rank(candidates, scores)

    def _candidates(self, source_tokens: Tensor) -> tuple[Candidates, Tensor]:
        """All rows, and their scores (B,N), -inf where there is no such length."""
        states = self.model.encode(source_tokens)
        lengths, valid = candidate_window(
            self.model.predict_lengths(states), self.length_candidates, self.model.longest_target
        )
        empty = states.lengths == 1  # (B,)
        lengths = lengths.masked_fill(empty[:, None], 1)
        encoded = None
        if self.rescorer is not None:
            self.rescorer.follow(next(self.model.parameters()))
            encoded = self.rescorer.encode(source_tokens, states.lengths)
        rows = torch.arange(len(lengths), device=lengths.device)[:, None].expand_as(lengths)
        parts, scores = [], []
        for part in self._passes(lengths):
            row = rows[part].flatten()
            decoded, mask = self.model.decode(
                states.select(part), lengths[part], log_probs=self.rescorer is None
            )
            tokens = decoded.tokens.masked_fill(empty[row, None], self.eos)
            done = finish(tokens, decoded.log_probs.float(), mask, self.eos, self.pad, self.dedup)
            if self.rescorer is None:
                score = normalize(done.log_probs.sum(1), done.mask.sum(1), "mean", 0.0)
            else:
                log_probs = self.rescorer.log_probs(encoded, row, done)
                done = Candidates(done.tokens, done.mask, log_probs)
                score = self.rescorer.score(log_probs, done.mask)
            parts.append(done)
            scores.append(score)
        ranked = torch.cat(scores).view(lengths.shape).masked_fill(~valid, float("-inf"))
        return self._join(parts), ranked

    def _passes(self, lengths: Tensor) -> Iterator[slice]:
        """Slices of the sentences whose logits fit into one pass; lengths (B,N)."""
        widest = lengths.size(1) * int(lengths.max()) * self.model.vocab_size
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

    def _rank(self, candidates: Candidates, scores: Tensor) -> list[list[Hypothesis]]:
        batch, window = scores.shape
        order = scores.argsort(dim=1, descending=True, stable=True)
        # One transfer each, then plain Python: no synchronisation per sentence.
        tokens, log_probs = candidates.tokens.cpu(), candidates.log_probs.cpu()
        ends = candidates.mask.sum(dim=1).tolist()
        best_first, values = order.tolist(), scores.tolist()
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
                    hypotheses[key] = Hypothesis(tokens[row, :end], value, log_probs[row, :end])
            translations.append(list(hypotheses.values()))
        return translations

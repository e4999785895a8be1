"""Wraps the engine as a fairseq generator."""

import logging
import math
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine, Hypothesis

logger = logging.getLogger(__name__)


class NartGenerator:
    """The generator that `task.build_generator` returns for a non-autoregressive model."""

    def __init__(self, engine: Engine, most: int | None = None, strict: bool = True) -> None:
        """`most`: hypotheses returned per sentence, as for --nbest; None returns all.

        A sentence that cannot be decoded is a UserError; if not `strict`, its error is logged and
        its translation is empty, with a score of -inf.
        """
        self.engine = engine
        self.most = most
        self.strict = strict
        self.eos = engine.eos

    def generate(
        self, models: Any, sample: dict[str, Any], **kwargs: Any
    ) -> list[list[dict[str, Any]]]:
        """Hypotheses in fairseq's format. `models` and `kwargs` are ignored."""
        nothing = torch.empty(0)
        return [
            [
                {
                    "tokens": hypothesis.tokens,
                    "score": torch.tensor(hypothesis.score),
                    "positional_scores": hypothesis.token_scores,
                    "attention": nothing,
                    "alignment": nothing,
                    "steps": hypothesis.iterations,
                }
                for hypothesis in hypotheses
            ]
            for hypotheses in self._decode(sample["net_input"]["src_tokens"], sample.get("id"))
        ]

    def _decode(self, source: Tensor, ids: Tensor | None) -> list[list[Hypothesis]]:
        try:
            return self.engine(source, self.most)
        except UserError as error:
            if self.strict:
                raise
            if len(source) > 1:
                rows = (slice(row, row + 1) for row in range(len(source)))
                parts = ((source[row], None if ids is None else ids[row]) for row in rows)
                return [hypotheses for part in parts for hypotheses in self._decode(*part)]
            name = "a line" if ids is None else f"H-{int(ids)}"
            logger.error("%s: %s. Its translation is left empty", name, error)
            empty = Hypothesis(source.new_tensor([self.eos]), -math.inf, torch.tensor([-math.inf]))
            return [[empty]]

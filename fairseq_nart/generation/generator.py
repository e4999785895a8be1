"""Wraps the engine as a fairseq generator."""

import logging
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.errors import UserError, decode_each
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

    def _decode(self, source: Tensor, ids: Tensor | None) -> Iterable[list[Hypothesis]]:
        if self.strict:
            return self.engine(source, self.most)
        numbers = [None] * len(source) if ids is None else ids.tolist()
        return decode_each(
            lambda rows, _: self.engine(rows, self.most), source, numbers, self._left_empty
        )

    def _left_empty(self, number: int | None, error: UserError) -> list[Hypothesis]:
        name = "a line" if number is None else f"H-{number}"
        logger.error("%s: %s. Its translation is left empty", name, error)
        return [Hypothesis(torch.tensor([self.eos]), -math.inf, torch.tensor([-math.inf]))]

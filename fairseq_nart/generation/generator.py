"""Wraps the engine as a fairseq generator."""

from typing import Any

import torch

from fairseq_nart.generation.engine import Engine


class NartGenerator:
    """The generator that `task.build_generator` returns for a non-autoregressive model."""

    def __init__(self, engine: Engine, most: int | None = None) -> None:
        """`most`: hypotheses returned per sentence, as for --nbest; None returns all."""
        self.engine = engine
        self.most = most
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
            for hypotheses in self.engine(sample["net_input"]["src_tokens"], self.most)
        ]

"""The one criterion of all systems: weighs their named loss terms, divides by target tokens."""

import math
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from torch import Tensor

from fairseq_nart.layers.states import LossTerm

CRITERION = "nart"


@register_criterion(CRITERION)
class NartCriterion(FairseqCriterion):
    """Sum of weight x sum over the model's terms, with target tokens as the sample size.

    One rule of normalisation: gradients do not depend on how an update is split into batches.
    """

    def forward(
        self, model: torch.nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Returns the summed loss, the target tokens it is to be divided by, and what to log."""
        terms: list[LossTerm] = model(sample["net_input"]["src_tokens"], sample["target"])
        self._refuse_nan(terms, sample)
        loss = torch.stack([term.weight * term.sum for term in terms]).sum()
        log = {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample["ntokens"],
        }
        for term in terms:
            log[f"{term.name}_sum"] = term.sum.detach()
            log[f"{term.name}_count"] = term.count
        return loss, sample["ntokens"], log

    @staticmethod
    def _refuse_nan(terms: list[LossTerm], sample: dict[str, Any]) -> None:
        finite = torch.stack([term.sum.detach() for term in terms]).isfinite()
        if not finite.all():
            bad = [term.name for term, good in zip(terms, finite.tolist(), strict=True) if not good]
            raise FloatingPointError(
                f"{', '.join(bad)} is not a finite number on the batch of sentences "
                f"{sample['id'].tolist()} (line numbers of the data set, from 0): lower --lr, set "
                "--clip-norm, or look at these lines; the last checkpoint is untouched"
            )

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Logs the loss per target token and each term per its own item, in base 2."""
        outputs = [{k: float(v) for k, v in log.items()} for log in logging_outputs]

        def log_mean(name: str, total: str, count: str) -> None:
            items = sum(log.get(count, 0) for log in outputs)
            if items:
                value = sum(log.get(total, 0) for log in outputs) / items / math.log(2)
                metrics.log_scalar(name, value, items, round=3)

        log_mean("loss", "loss", "sample_size")
        names = {key.removesuffix("_sum") for log in outputs for key in log if key.endswith("_sum")}
        for name in sorted(names):
            log_mean(name, f"{name}_sum", f"{name}_count")

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Sums and counts only."""
        return True

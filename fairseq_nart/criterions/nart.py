"""The criterion of all systems: adds up their weighted loss terms."""

import math
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from torch import Tensor

from fairseq_nart.losses.terms import LossTerm

CRITERION = "nart"


def not_finite(terms: list[str], ids: Tensor, update: int) -> FloatingPointError:
    """The error of an update whose loss terms are not finite on the sentences with `ids`."""
    return FloatingPointError(
        f"update {update}: {', '.join(terms)} is not a finite number on the batch of sentences "
        f"{ids.tolist()} (line numbers of the data set, from 0): lower --lr, set --clip-norm, or "
        "look at these lines; the last checkpoint is untouched"
    )


def require_finite(log: dict[str, Any], ids: Tensor, update: int) -> None:
    """FloatingPointError if a loss of an update is not finite on the sentences with `ids`."""
    losses = {name: float(value) for name, value in log.items() if name.endswith("loss")}
    if bad := [name for name, loss in losses.items() if not math.isfinite(loss)]:
        raise not_finite(bad, ids, update)


@register_criterion(CRITERION)
class NartCriterion(FairseqCriterion):
    """Sum of weight x sum over the model's terms, with target tokens as the sample size.

    So gradients do not depend on how an update is split into batches.
    """

    update = 0
    """The number of the current update, from 1; the task sets it."""
    unchecked: tuple[Tensor, list[str], Tensor, int] | None = None
    """For the previous batch on a GPU: whether each term is finite, term names, sentence ids and
    update."""

    def forward(
        self, model: torch.nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Returns the summed loss, the number of target tokens to divide it by, and the log."""
        side = sample.get("side_inputs", {})
        terms: list[LossTerm] = model(sample["net_input"]["src_tokens"], sample["target"], **side)
        # Not in fp16, where fairseq lowers the loss scale and continues.
        if next(model.parameters()).dtype != torch.float16 and not torch.is_autocast_enabled():
            self._require_finite(terms, sample)
        loss = torch.stack([term.weight * term.sum for term in terms]).sum()
        log = {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample["ntokens"],
        }
        for term in terms:
            log[f"{term.name}_{'sum' if term.in_nats else 'number'}"] = term.sum.detach()
            log[f"{term.name}_count"] = term.count
        return loss, sample["ntokens"], log

    def _require_finite(self, terms: list[LossTerm], sample: dict[str, Any]) -> None:
        """FloatingPointError names the loss terms that are not finite, sentences and update.

        On a GPU it checks the previous batch, which is finished, so the host need not wait.
        """
        finite = torch.stack([term.sum.detach() for term in terms]).isfinite()
        checked = (finite, [term.name for term in terms], sample["id"], self.update)
        if finite.device.type != "cpu":
            self.unchecked, checked = checked, self.unchecked
        if checked is None or checked[0].all():
            return
        finite, names, ids, update = checked
        bad = [name for name, good in zip(names, finite.tolist(), strict=True) if not good]
        raise not_finite(bad, ids, update)

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Logs the loss per target token and each term per item, in base 2 if in nats."""
        outputs = [{k: float(v) for k, v in log.items()} for log in logging_outputs]

        def log_mean(name: str, total: str, count: str, unit: float) -> None:
            items = sum(log.get(count, 0) for log in outputs)
            if items:
                value = sum(log.get(total, 0) for log in outputs) / items / unit
                metrics.log_scalar(name, value, items, round=3)

        log_mean("loss", "loss", "sample_size", math.log(2))
        keys = sorted({key for log in outputs for key in log})
        for ending, unit in (("_sum", math.log(2)), ("_number", 1.0)):
            for name in (key.removesuffix(ending) for key in keys if key.endswith(ending)):
                log_mean(name, f"{name}{ending}", f"{name}_count", unit)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """True: the logs are sums and counts."""
        return True

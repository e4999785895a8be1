"""The criterion: equal for a batch and its parts, logs of terms, and errors for NaN."""

import math
from collections import Counter

import pytest
import torch
from toys import build

from fairseq_nart.criterions.nart import NartCriterion

ARCHS = ["nart_tiny", "nart_crf_tiny", "nart_dcrf_tiny", "nart_ctc_tiny", "nart_refinement_tiny"]
ARCHS += ["nart_reg_tiny"]


def sample_of(task, rows, device):
    task.load_dataset("valid")
    data = task.dataset("valid")
    sample = data.collater([data[i] for i in rows])
    sample["net_input"] = {k: v.to(device) for k, v in sample["net_input"].items()}
    return {**sample, "target": sample["target"].to(device)}


def gradients(task, model, groups, device):
    """Summed loss, sample size and gradients over batches of the given rows."""
    criterion, total, tokens = NartCriterion(task), 0.0, 0
    model.zero_grad()
    for rows in groups:
        loss, sample_size, _ = criterion(model, sample_of(task, rows, device))
        loss.backward()
        total, tokens = total + loss.item(), tokens + sample_size
    return total, tokens, {n: p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize("arch", ARCHS)
def test_batch_equals_its_parts(arch, task, device):
    model = build(task, arch).to(device).double()
    together = gradients(task, model, [[0, 1, 2, 3, 4, 5]], device)
    split = gradients(task, model, [[4, 0], [1, 2, 3, 5]], device)
    assert together[0] == pytest.approx(split[0], rel=1e-5)
    assert together[1] == split[1]
    for name, gradient in together[2].items():
        torch.testing.assert_close(gradient, split[2][name], rtol=1e-4, atol=1e-5)


def test_terms_are_logged_by_name(task, device):
    from fairseq.logging import metrics

    model = build(task, "nart_dcrf_tiny", "--length-predictor", "classifier").to(device)
    logs, sums, tokens = [], Counter(), 0
    for rows in (range(4), [5]):
        sample = sample_of(task, rows, device)
        loss, count, log = NartCriterion(task)(model, sample)
        terms = {t.name: t for t in model(sample["net_input"]["src_tokens"], sample["target"])}
        expected = terms["crf_loss"].sum + 0.5 * terms["nar_loss"].sum + terms["length_loss"].sum
        torch.testing.assert_close(loss, expected)
        sums.update({"loss": loss.item(), **{n: t.sum.item() for n, t in terms.items()}})
        logs.append(log)
        tokens += count
    with metrics.aggregate() as aggregate:
        NartCriterion.reduce_metrics(logs)
    values = aggregate.get_smoothed_values()
    for name, items in {
        "loss": tokens,
        "crf_loss": tokens,
        "nar_loss": tokens,
        "length_loss": 5,
    }.items():
        assert values[name] == pytest.approx(sums[name] / items / math.log(2), abs=2e-3)


def test_nan_error_names_term_and_batch(task, device):
    model = build(task, "nart_crf_tiny").to(device)
    with torch.no_grad():
        model.crf.transitions.source.weight.fill_(float("nan"))
    sample = sample_of(task, [3, 5], device)
    criterion = NartCriterion(task)
    with pytest.raises(FloatingPointError, match=r"crf_loss is not .* sentences \[.*3.*\]"):
        for _ in range(1 if device.type == "cpu" else 2):  # on a GPU, one update later
            criterion(model, sample)
    # In fp16, fairseq scales the loss, and lowers the scale after an overflow.
    loss, _, _ = NartCriterion(task)(model.half(), sample)
    assert not loss.isfinite()

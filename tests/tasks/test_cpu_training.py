"""The faster training of teachers gives the same results as fairseq's."""

import copy
from types import SimpleNamespace

import pytest
import torch
import toys
from fairseq import options
from fairseq.criterions import label_smoothed_cross_entropy
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.modules import FairseqDropout

from fairseq_nart.tasks import _cpu_training
from fairseq_nart.tasks._cpu_training import FastDropout


@pytest.fixture
def task(tmp_path):
    toys.write_text(tmp_path, {"train": 30})
    return toys.load_task(toys.binarise(tmp_path, tmp_path / "bin", "--joined-dictionary"))


def teacher(task, kind, dropout):
    torch.manual_seed(0)
    words = [task.cfg.data, *toys.TEACHERS[kind], "--max-tokens", "1", "--dropout", str(dropout)]
    return task.build_model(options.parse_args_and_arch(options.get_training_parser(), words))


@pytest.mark.parametrize("kind", toys.TEACHERS)
def test_dropout_is_replaced_with_the_same_rate(kind, task):
    model = teacher(task, kind, 0.3)
    drops = [module for module in model.modules() if isinstance(module, FairseqDropout)]
    assert drops and all(type(module) is FastDropout for module in drops)
    assert {0.0, *(module.p for module in drops)} == {0.0, 0.3}  # attention and activation: none
    x = torch.ones(100, 100)
    drop = next(module for module in drops if module.p)
    assert (drop.train()(x) == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert drop.eval()(x) is x


@pytest.mark.parametrize("kind", toys.TEACHERS)
def test_losses_and_gradients_equal_fairseq(kind, task, monkeypatch):
    task.load_dataset("train")
    data = task.dataset("train")
    sample = data.collater([data[i] for i in range(4)])  # some of them padded
    plain = LabelSmoothedCrossEntropyCriterion(task, True, 0.1, report_accuracy=True)
    ours = copy.copy(plain)
    _cpu_training.use_fast_loss(ours)
    assert type(ours) is type(plain)
    base = super(type(task), task)
    results = []
    for step, valid_step, criterion in (
        (base.train_step, base.valid_step, plain),
        (task.train_step, task.valid_step, ours),
    ):
        model = teacher(task, kind, 0.0)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.backward = torch.Tensor.backward
        logs = [step(sample, model, criterion, optimizer, 1)[2]]
        logs.append(valid_step(sample, model, criterion)[2])
        results.append((logs, {name: p.grad for name, p in model.named_parameters()}))
        monkeypatch.setattr(label_smoothed_cross_entropy, "label_smoothed_nll_loss", None)
    assert results[0][1]
    torch.testing.assert_close(*results)


def test_adaptive_softmax_keeps_its_loss(task):
    criterion = LabelSmoothedCrossEntropyCriterion(task, True, 0.1)
    criterion.compute_loss = lambda *_, **words: words
    _cpu_training.use_fast_loss(criterion)
    model = SimpleNamespace(decoder=SimpleNamespace(adaptive_softmax=torch.nn.Identity()))
    outputs = torch.zeros(1, 1, 8), None
    assert criterion.compute_loss(model, outputs, {}, reduce=True) == {"reduce": True}

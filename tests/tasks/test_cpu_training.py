"""Teachers train as fairseq trains them, only faster."""

import pytest
import torch
import toys
from fairseq import options
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.modules import FairseqDropout

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
def test_dropout_is_ours_at_the_rate_asked_for(kind, task):
    model = teacher(task, kind, 0.3)
    drops = [module for module in model.modules() if isinstance(module, FairseqDropout)]
    assert drops and all(type(module) is FastDropout for module in drops)
    assert {0.0, *(module.p for module in drops)} == {0.0, 0.3}  # attention and activation: none
    x = torch.ones(100, 100)
    drop = next(module for module in drops if module.p)
    assert (drop.train()(x) == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert drop.eval()(x) is x


@pytest.mark.parametrize("kind", toys.TEACHERS)
def test_gradients_are_those_of_fairseq(kind, task):
    task.load_dataset("train")
    data = task.dataset("train")
    sample = data.collater([data[i] for i in range(4)])
    gradients = []
    for step in (task.train_step, super(type(task), task).train_step):
        model = teacher(task, kind, 0.0)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.backward = torch.Tensor.backward
        step(sample, model, LabelSmoothedCrossEntropyCriterion(task, True, 0.1), optimizer, 1)
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert gradients[0]
    torch.testing.assert_close(*gradients)

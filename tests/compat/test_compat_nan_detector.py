"""Where a gradient is not a number, the trainer says so."""

import importlib
from typing import Any

import pytest
import torch
from torch import nn


class Pair:
    """What a module may return beside tensors."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(self.inner(x))


def test_modules_may_return_anything(caplog: pytest.LogCaptureFixture) -> None:
    trainer: Any = importlib.import_module("fairseq.trainer")
    model = Model()
    with trainer.NanDetector(model):
        model(torch.full((1, 2), float("nan"), requires_grad=True)).x.sum().backward()
    assert "NaN detected in output of inner" in caplog.text

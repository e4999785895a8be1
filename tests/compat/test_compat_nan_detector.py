"""The trainer reports NaN gradients."""

import importlib
from typing import Any

import pytest
import torch
from torch import nn


class Pair:
    """An output of a module that is not a tensor."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(self.inner(x))


def test_modules_can_return_any_type(caplog: pytest.LogCaptureFixture) -> None:
    trainer: Any = importlib.import_module("fairseq.trainer")
    model = Model()
    with trainer.NanDetector(model):
        model(torch.full((1, 2), float("nan"), requires_grad=True)).x.sum().backward()
    assert "NaN detected in output of inner" in caplog.text

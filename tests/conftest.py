"""Options and fixtures of all tests."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
import toys

from fairseq_nart.compat.quiet import silence_deprecations
from fairseq_nart.layers import linear
from fairseq_nart.tasks.nart_translation import NartTranslationTask


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="torch device of the tests, such as cuda:0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Tests see the warnings that users see: pytest drops the package's filters for each test.

    No test leaves logging changed for the next: programs do, for the rest of their process.
    """
    silence_deprecations()
    logger = logging.getLogger("fairseq")
    level, disabled = logger.level, logger.manager.disable
    try:
        return (yield)
    finally:
        logger.setLevel(level)
        logging.disable(disabled)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def small_layers_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of test models too, which it would not pay."""
    monkeypatch.setattr(linear, "WORTH_PACKING", 0)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A binarised made corpus with one dictionary for both sides."""
    text = tmp_path_factory.mktemp("text")
    toys.write_text(text, {"train": 200, "valid": 20, "test": 17})
    return toys.binarise(text, tmp_path_factory.mktemp("data") / "bin", "--joined-dictionary")


@pytest.fixture(scope="session")
def task(data: Path) -> NartTranslationTask:
    return toys.load_task(data)


@pytest.fixture(scope="session")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small autoregressive teacher, hardly trained."""
    save = tmp_path_factory.mktemp("teacher")
    words = ["--arch", "nart_teacher_tiny", *toys.SMALL_TEACHER, "--max-update", "30"]
    return toys.fairseq_train(data, save, *words, "--lr", "1e-2", "--disable-validation")


@pytest.fixture(scope="session")
def student(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small NART-DCRF, hardly trained."""
    save = tmp_path_factory.mktemp("student")
    words = ["--arch", "nart_dcrf_tiny", *toys.SMALL, "--max-update", "30", "--lr", "1e-2"]
    return toys.fairseq_train(data, save, *words, "--bf16", "--disable-validation")

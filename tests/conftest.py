"""Options and fixtures of all tests."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
import toys
from hypothesis import Phase, settings

from fairseq_nart.compat.quiet import silence_deprecations
from fairseq_nart.layers import linear
from fairseq_nart.tasks.nart_translation import NartTranslationTask

# Repeatable, and without the search for the smallest failing example.
settings.register_profile("mutants", derandomize=True, phases=[Phase.explicit, Phase.generate])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="torch device of the tests, such as cuda:0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Restores the package's warning filters, which pytest drops for each test.

    Afterwards restores logging, which fairseq's programs change for the rest of the process.
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
def pack_small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs even the small layers of test models, for which packing is not worth it."""
    monkeypatch.setattr(linear, "WORTH_PACKING", 0)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A binarized synthetic corpus with one dictionary for both sides."""
    text = tmp_path_factory.mktemp("text")
    toys.write_text(text, {"train": 200, "valid": 20, "test": 17})
    return toys.binarise(text, tmp_path_factory.mktemp("data") / "bin", "--joined-dictionary")


@pytest.fixture(scope="session")
def task(data: Path) -> NartTranslationTask:
    return toys.load_task(data)


@pytest.fixture(scope="session")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small autoregressive teacher after 30 updates."""
    save = tmp_path_factory.mktemp("teacher")
    words = ["--arch", "nart_teacher_tiny", *toys.SMALL_TEACHER, "--max-update", "30"]
    return toys.fairseq_train(data, save, *words, "--lr", "1e-2", "--disable-validation")


@pytest.fixture(scope="session")
def student(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small NART-DCRF after 30 updates."""
    save = tmp_path_factory.mktemp("student")
    words = ["--arch", "nart_dcrf_tiny", *toys.SMALL, "--max-update", "30", "--lr", "1e-2"]
    return toys.fairseq_train(data, save, *words, "--bf16", "--disable-validation")

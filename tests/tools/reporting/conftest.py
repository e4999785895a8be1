"""Synthetic runs and their reports."""

import pytest
import synthetic_run
from synthetic_report import FEW, report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run.make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def out(run, tmp_path_factory):
    """The report of the whole synthetic run."""
    folder = tmp_path_factory.mktemp("out") / "report"
    assert report(run, out=folder, words=["--published", "sun2019"]) == 0
    return folder


@pytest.fixture
def small(tmp_path):
    """A run of few systems, to change."""
    return synthetic_run.make_run(tmp_path / "small", sentences=20, systems=FEW)


@pytest.fixture
def no_plots(monkeypatch):
    """Skips the figures, which take time and which most tests do not need."""
    monkeypatch.setattr("fairseq_nart.tools.reporting.plots.draw", lambda of, folder: [])
    monkeypatch.setattr("fairseq_nart.tools.reporting.plots.draw_parts", lambda of, folder: [])

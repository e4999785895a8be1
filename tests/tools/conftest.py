"""A fake clock for tests of timing."""

import time

import pytest


@pytest.fixture
def work(monkeypatch):
    """Advances a fake clock by the given seconds, which it returns."""
    now = [0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work(seconds):
        now[0] += seconds
        return seconds

    return work

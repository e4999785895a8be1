"""A clock that tests of times move by themselves."""

import time

import pytest


@pytest.fixture
def work(monkeypatch):
    """Work that takes as long as it says, on a clock that nothing else moves."""
    now = [0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work(seconds):
        now[0] += seconds
        return seconds

    return work

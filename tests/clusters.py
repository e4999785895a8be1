"""Runs a program on a Ray cluster of this machine and kills one of its workers."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed")


def workers_of(pid: int) -> Iterator[int]:
    """The processes of Ray Data's workers below a process."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    for child in children.get(pid, ()):
        try:
            if b"MapWorker" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield child
        except OSError:
            continue
        yield from workers_of(child)


def killing_a_worker(command: list[str], begun: Callable[[], bool]) -> str:
    """Runs a Python program with two workers; kills one as soon as `begun`. Returns its output."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 2}',
        "RAY_worker_niceness": "0",
    }
    with subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        killed = None
        while program.poll() is None and killed is None:
            time.sleep(0.02)
            if begun() and (workers := list(workers_of(program.pid))):
                killed = workers[0]
                os.kill(killed, signal.SIGKILL)
        output, _ = program.communicate(timeout=500)
    assert killed is not None, output
    assert program.returncode == 0, output
    return output

"""The circumstances of a measurement: machine, versions, commit, time."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import fairseq_nart
from fairseq_nart.tools.benchmark.records import Machine


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0))


def machine(device: str) -> Machine:
    """This machine; `device` is cpu or cuda."""
    if device == "cuda":
        import torch

        device = torch.cuda.get_device_name()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(_cpu(), cores(), round(memory, 1), device)


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", file.read_text()) if file.exists() else None
    return name[1].strip() if name else platform.processor() or platform.machine()


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """The versions of Python and of the given packages."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in libraries},
    }


def commit() -> str:
    """The commit of this package's checkout, marked if it has changes; else the version."""
    file = Path(fairseq_nart.__file__)

    def git(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        # Fails in an environment inside another repository.
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--dirty", "--abbrev=7", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return f"fairseq_nart {fairseq_nart.__version__}"


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

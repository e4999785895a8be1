"""Freed memory stays in the process until it is returned explicitly."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="for glibc's malloc alone"
)

CODE = """
import resource, sys, torch
from fairseq_nart.compat.allocator import keep_freed_memory, return_free_memory
keep_freed_memory()
torch.set_num_threads(1)
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(30)  # glibc needs a few allocations to adapt
if sys.argv[1] == "return":
    return_free_memory()
print(faults(1))
"""


def faults(what: str, code: str = CODE, **environment: str) -> int:
    """Page faults of one more tensor, with memory kept or returned before."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
    kept = {k: v for k, v in os.environ.items() if k not in names}
    command = [sys.executable, "-c", code, what]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def test_freed_memory_is_reused():
    assert faults("keep") < 1000


def test_free_memory_can_be_returned():
    assert faults("return") > 10000


def test_python_api_does_not_change_the_allocator():
    code = CODE.replace("keep_freed_memory()\n", "import fairseq_nart.hub\n", 1)
    assert faults("keep", code) > 10000


def test_settings_of_the_user_are_kept():
    assert faults("keep", MALLOC_MMAP_MAX_="65536") > 10000

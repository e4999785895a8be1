"""Memory that stays in the process."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from fairseq_nart.compat.allocator import keep_freed_memory
keep_freed_memory()
torch.set_num_threads(1)
torch.ones(2**25)  # 128 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


RETURNED = """
import resource, torch
from fairseq_nart.compat.allocator import keep_freed_memory, return_free_memory
keep_freed_memory()
torch.set_num_threads(1)
torch.ones(2**25)  # 128 MiB
kept = torch.ones(2**20)
return_free_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(code=CODE, **environment):
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
    kept = {k: v for k, v in os.environ.items() if k not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc alone")
def test_freed_memory_is_used_again():
    assert faults() < 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc alone")
def test_free_memory_goes_back_when_told():
    assert faults(RETURNED) > 10000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc alone")
def test_what_the_user_chose_stays():
    assert faults(MALLOC_MMAP_MAX_="65536") > 10000

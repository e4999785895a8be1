"""Memory that one update frees is kept for the next, and what piled up is returned now and then."""

import ctypes
import os
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h
_NEVER = 2**31 - 1  # mallopt takes an int
_CHOICES = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES"}


def keep_freed_memory() -> None:
    """Tell glibc's malloc not to hand freed memory back to the system; for programs of our own.

    No part of `compat.apply`: whoever imports the Python API keeps the process as it was. Left to
    itself malloc returns every tensor beyond 32 MiB when it is freed, and the top of the heap after
    each update; on a CPU the page faults of fetching it again took up to a fifth of a training
    step. What the user has set in the environment stays.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        mallopt(_M_MMAP_MAX, 0)


def return_free_memory() -> None:
    """Hand back what is free at this moment, once in a while.

    Batches of ever new shapes leave holes in the heap: a training that kept all of them went from
    2 to 6 GB in 1,500 updates, with 1 GB in use.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    """A function of glibc; None elsewhere (musl has none of these) and where the user chose."""
    if not sys.platform.startswith("linux") or _CHOICES & os.environ.keys():
        return None
    return getattr(ctypes.CDLL(None), name, None)

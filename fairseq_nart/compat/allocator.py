"""Keep the memory that an update frees for the next update."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h
_NEVER = 2**31 - 1  # mallopt takes an int


def keep_freed_memory() -> None:
    """Tell glibc's malloc not to hand freed memory back to the system.

    Left to itself it returns every tensor beyond 32 MiB when it is freed, and the top of the heap
    after each update; on a CPU the page faults of fetching it again took up to a fifth of a
    training step. What the user has set in the environment stays.
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES"}
    if not sys.platform.startswith("linux") or chosen & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        mallopt(_M_MMAP_MAX, 0)

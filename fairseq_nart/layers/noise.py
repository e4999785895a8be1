"""Random numbers that are the same on every machine, with torch or without. Needs NumPy alone."""

import functools

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
"""Positions whose noise is generated from one seed."""


@functools.lru_cache(maxsize=2**12)  # of 12.5 KiB for 50 classes
def gumbel(number: int, block: int, classes: int) -> NDArray[np.float32]:
    """(BLOCK,classes) Gumbel noise of a sample and a block of positions.

    Each pair has its own seed, so the noise does not depend on which other ones are requested. Only
    the raw bits of NumPy's generator are used, because those never change between its versions.
    """
    bits = np.random.PCG64(2**20 * number + block).random_raw(BLOCK * classes)
    uniform = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53  # never 0 or 1
    noise: NDArray[np.float32] = -np.log(-np.log(uniform)).astype(np.float32)
    return noise.reshape(BLOCK, classes)


TABLE = 2**14 * BLOCK
"""Numbers in `table`."""


def table() -> NDArray[np.float32]:
    """(TABLE,) Gumbel noise, for distributions over too many classes to store noise for each."""
    return gumbel(0, 0, TABLE // BLOCK).reshape(-1)


def offsets(numbers: int, position: int, classes: int) -> NDArray[np.int64]:
    """(numbers,) where in `table` the noise of `classes` starts for each sample at a position.

    Two samples share some numbers, but for other classes, so they are almost independent.
    """
    key = np.arange(numbers, dtype=np.uint64) << np.uint64(32) | np.uint64(position)
    key += np.uint64(0x9E3779B97F4A7C15)  # mixed as by splitmix64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ key >> np.uint64(shift)) * np.uint64(factor)
    key ^= key >> np.uint64(31)
    return (key % np.uint64(TABLE - classes)).astype(np.int64)

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

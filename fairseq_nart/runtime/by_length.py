"""NART with any head: one decoder pass for each target length."""

import functools
from typing import Any

import numpy as np

from fairseq_nart.generation.options import LengthDecoding
from fairseq_nart.runtime.states import Arrays, Bools, Decoded, Floats, Ints, Source, Targets
from fairseq_nart.runtime.system import System


LENGTHS = 64
"""Target lengths whose `start` is kept."""


class ByLength(System):
    """A system that first chooses target lengths."""

    Decoding = LengthDecoding

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._started = functools.lru_cache(LENGTHS)(self._start)

    def propose(self, source: Source) -> Targets:
        """A window of lengths around the predicted one."""
        longest = self.manifest.longest_target
        lengths = np.minimum(np.maximum(source.encoded["lengths"], 1), longest)
        return Targets(*window(lengths, self.options.length_candidates, longest))

    def first_pass(self, source: Source, mask: Bools) -> Arrays:
        """mask (R,T) of the targets -> the outputs of the graph `decode`."""
        inputs = dict(source.encoded)
        if "start" in self.graphs:
            inputs["start"] = self._starts(mask)
        return self.graphs["decode"](source_mask=source.mask, mask=mask, **inputs)

    def _starts(self, mask: Bools) -> Floats:
        """mask (R,T) -> (R,T,D), arbitrary at padding."""
        if len(mask) == 1:
            return self._started(mask.shape[1])
        starts = [self._started(length)[0] for length in mask.sum(axis=1).tolist()]
        result = np.zeros((*mask.shape, starts[0].shape[1]), np.float32)
        for row, start in zip(result, starts, strict=True):
            row[: len(start)] = start
        return result

    def _start(self, length: int) -> Floats:
        """(1,T,D) for a target of `length` positions."""
        return self.graphs["start"](mask=np.ones((1, length), bool))["start"]


class Runtime(ByLength):
    """One pass; the head's search follows."""

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        mask = targets.mask()
        return self.searched(self.first_pass(source, mask), mask, targets.valid, scored)


def window(lengths: Ints, candidates: int, longest: int) -> tuple[Ints, Bools]:
    """Lengths (B,N) around `lengths` (B,), and which of them are possible, 1 to `longest`; the
    others are 1."""
    half = min(candidates // 2, longest - 1)
    if half == 0:
        return lengths[:, None], np.ones((len(lengths), 1), bool)
    around = lengths[:, None] + np.arange(-half, half + 1)
    inside = (around >= 1) & (around <= longest)
    return np.where(inside, around, 1), inside

"""NART with any head: one decoder pass for each target length."""

import functools
from typing import Any

import numpy as np

from fairseq_nart.generation.options import LengthDecoding
from fairseq_nart.runtime.states import Arrays, Bools, Decoded, Ints, Source, Targets
from fairseq_nart.runtime.system import System

LENGTHS = 64
"""Target lengths for which the outputs of the graph `start` are kept."""


class ByLength(System):
    """A system that first chooses target lengths."""

    Decoding = LengthDecoding

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._start = functools.lru_cache(LENGTHS)(self._compute_start)

    def predicted(self, source: Source) -> Ints:
        """(B,) target lengths with the offset, from 1 to the longest target."""
        lengths: Ints = source.encoded["lengths"] + self.options.length_offset
        return lengths.clip(1, self.manifest.longest_target)

    def propose(self, source: Source) -> Targets:
        """A window of lengths around the predicted one."""
        candidates, longest = self.options.length_candidates, self.manifest.longest_target
        return Targets(*window(self.predicted(source), candidates, longest))

    def first_pass(self, source: Source, mask: Bools) -> Arrays:
        """mask (R,T) of the targets -> the outputs of the graph `decode`."""
        inputs = {**source.encoded, **self._starts(mask)}
        return self.graphs["decode"](source_mask=source.mask, mask=mask, **inputs)

    def _starts(self, mask: Bools) -> Arrays:
        """mask (R,T) -> the outputs of the graph `start` if there is one, 0 at padding."""
        if "start" not in self.graphs:
            return {}
        if len(mask) == 1:
            return self._start(mask.shape[1])
        lengths = mask.sum(axis=1).tolist()
        starts = list(map(self._start, lengths))
        result = {}
        for name, longest in self._start(max(lengths)).items():
            result[name] = np.zeros((len(mask), *longest.shape[1:]), longest.dtype)
            for row, start in zip(result[name], starts, strict=True):
                row[tuple(map(slice, start[name].shape[1:]))] = start[name][0]
        return result

    def _compute_start(self, length: int) -> Arrays:
        """The outputs of `start` for one target of `length` positions."""
        return self.graphs["start"](mask=np.ones((1, length), bool))


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

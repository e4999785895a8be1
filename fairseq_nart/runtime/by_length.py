"""NART with any head: one decoder pass for each target length."""

import numpy as np

from fairseq_nart.generation.options import LengthDecoding
from fairseq_nart.runtime.states import Bools, Decoded, Ints, Source, Targets
from fairseq_nart.runtime.system import System


class ByLength(System):
    """A system that first chooses target lengths."""

    Decoding = LengthDecoding

    def propose(self, source: Source) -> Targets:
        """A window of lengths around the predicted one plus the offset."""
        longest = self.manifest.longest_target
        # `checked` also has a value for folders that are older than the option.
        predicted = source.encoded["lengths"] + self.checked.length_offset
        lengths = np.minimum(np.maximum(predicted, 1), longest)
        return Targets(*window(lengths, self.options.length_candidates, longest))


class Runtime(ByLength):
    """One pass; the head's search follows."""

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        mask = targets.mask()
        outputs = self.graphs["decode"](source_mask=source.mask, mask=mask, **source.encoded)
        return self.searched(outputs, mask, targets.valid, scored)


def window(lengths: Ints, candidates: int, longest: int) -> tuple[Ints, Bools]:
    """Lengths (B,N) around `lengths` (B,), and which of them are possible, 1 to `longest`; the
    others are 1."""
    half = min(candidates // 2, longest - 1)
    if half == 0:
        return lengths[:, None], np.ones((len(lengths), 1), bool)
    around = lengths[:, None] + np.arange(-half, half + 1)
    inside = (around >= 1) & (around <= longest)
    return np.where(inside, around, 1), inside

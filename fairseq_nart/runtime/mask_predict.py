"""Mask-predict: each pass predicts the least probable tokens of the one before again."""

import numpy as np

from fairseq_nart.generation.options import IterativeDecoding
from fairseq_nart.runtime.by_length import ByLength
from fairseq_nart.runtime.states import Bools, Decoded, Floats, Ints, Source, Targets


class Runtime(ByLength):
    """Decodes as `NartCmlm` does."""

    Decoding = IterativeDecoding

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        masked = mask = targets.mask()
        lengths, passes = targets.lengths.reshape(-1), self.checked.decoder_passes()
        tokens, scores = mask.astype(np.int64), np.zeros(mask.shape, np.float32)
        for t in range(passes):
            if t:
                masked = lowest(scores, mask, lengths * (passes - t) // passes)
            outputs = self.graphs["decode"](
                source_mask=source.mask, mask=mask, masked=masked, tokens=tokens, **source.encoded
            )
            tokens = np.where(masked, outputs["best"], tokens)
            scores = np.where(masked, outputs["log_probs"], scores)
        return Decoded(tokens, scores, mask, targets.valid, passes)


def lowest(keys: Floats, mask: Bools, count: Ints) -> Bools:
    """keys and mask (R,T), count (R,) -> (R,T), True on the `count` lowest keys in mask; ties go
    to the left."""
    order = np.where(mask, keys, np.inf).argsort(axis=1, kind="stable")
    result: Bools = mask & (order.argsort(axis=1) < count[:, None])
    return result

"""NAT with fertilities: the decoder's input repeats source tokens."""

import numpy as np

from fairseq_nart.layers.noise import BLOCK, gumbel
from fairseq_nart.runtime.states import Bools, Decoded, Floats, Ints, Source, Targets
from fairseq_nart.runtime.system import System


class Runtime(System):
    """Decodes as `NartFertility` does."""

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest array before decoding, which may be all samples (int64)."""
        samples: int = self.options.fertility_samples
        return max(super().sentence_elements(source), 2 * samples * source)

    def propose(self, source: Source) -> Targets:
        """The most probable or average fertilities, then samples."""
        logits = source.encoded["fertilities"]
        average = self.options.fertility_decoding == "average"
        first = rounded_mean(logits) if average else logits.argmax(axis=2)
        count = self.options.fertility_samples - 1
        proposed = np.concatenate([first[:, None], sample(logits, source.mask, count)], axis=1)
        fertilities = make_valid(proposed, source.mask, self.manifest.longest_target)
        lengths = fertilities.sum(axis=2)
        return Targets(lengths, np.ones_like(lengths, bool), {"fertilities": fertilities})

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        mask = targets.mask()
        fertilities = targets.more["fertilities"].reshape(len(mask), -1)
        encoded = {x: y for x, y in source.encoded.items() if x != "fertilities"}
        index = copy_index(fertilities, mask.shape[1])
        outputs = self.graphs["decode"](source_mask=source.mask, mask=mask, index=index, **encoded)
        return self.searched(outputs, mask, targets.valid, scored)


def rounded_mean(logits: Floats) -> Ints:
    """logits (B,S,L) -> (B,S), the rounded expectation of each token's fertility."""
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    means: Floats = weights @ np.arange(logits.shape[2], dtype=logits.dtype)
    return means.round().astype(np.int64)


def sample(logits: Floats, mask: Bools, count: int) -> Ints:
    """logits (B,S,L), mask (B,S) -> (B,count,S) samples; see `fairseq_nart.layers.fertility`."""
    places = np.maximum(mask.cumsum(axis=1) - 1, 0)
    blocks = range(-(-mask.shape[1] // BLOCK))
    samples = np.empty((len(mask), count, mask.shape[1]), np.int64)
    for number in range(count):
        noise = np.concatenate([gumbel(number, block, logits.shape[2]) for block in blocks])
        samples[:, number] = (logits + noise[places]).argmax(axis=2)
    return samples


def make_valid(fertilities: Ints, mask: Bools, longest: int) -> Ints:
    """fertilities (B,N,S), mask (B,S) -> (B,N,S): 0 at padding, at most `longest` and twice the
    source's length in all, and the last token once if there would be nothing."""
    lengths = mask.sum(axis=1)
    most = np.minimum(2 * lengths, longest)[:, None, None]
    totals = np.minimum((fertilities * mask[:, None]).cumsum(axis=2), most)
    copies = np.diff(totals, axis=2, prepend=0)
    last = mask & (mask.cumsum(axis=1) == lengths[:, None])
    result: Ints = copies + (last[:, None] & (totals[:, :, -1:] == 0))
    return result


def copy_index(fertilities: Ints, width: int) -> Ints:
    """fertilities (R,S) -> (R,width), the source token that each position copies; arbitrary beyond
    their sum."""
    index = np.zeros((len(fertilities), width), np.int64)
    for row, counts in zip(index, fertilities, strict=True):
        copies = np.repeat(np.arange(len(counts)), counts)
        row[: len(copies)] = copies
    return index

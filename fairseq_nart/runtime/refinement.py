"""Iterative refinement: later passes correct the output of the one before."""

import collections

import numpy as np

from fairseq_nart.generation.options import StoppingDecoding
from fairseq_nart.generation.stopping import STOPPING_RULES
from fairseq_nart.runtime.by_length import ByLength
from fairseq_nart.runtime.states import Bools, Decoded, Ints, Source, Targets


class Runtime(ByLength):
    """Decodes as `NartRefinement` does."""

    Decoding = StoppingDecoding

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        """A row that has stopped keeps its output; its sentence is computed until all its
        candidates have stopped."""
        mask, candidates = targets.mask(), targets.valid.shape[1]
        passes = self.checked.decoder_passes() if self.manifest.constants["refines"] else 1
        rule = STOPPING_RULES[self.options.refinement_stop]
        outputs = self.first_pass(source, mask)
        tokens, features = outputs["best"], outputs["features"]
        log_probs = outputs["log_probs"]
        history = collections.deque([tokens], maxlen=rule.window if rule else 1)
        active = np.ones(len(mask), bool)
        iterations = np.ones(len(mask), np.int64)
        for _ in range(1, passes):
            if rule is not None and len(history) == rule.window:
                active &= ~ended(np.stack(history, axis=1), mask, rule.in_order)
                if not active.any():
                    break
            sentences = active.reshape(-1, candidates).any(axis=1)
            rows = np.repeat(sentences, candidates)
            (places,) = np.nonzero(sentences)
            some = source.select(places)
            outputs = self.graphs["refine"](
                source_mask=some.mask,
                mask=mask[rows],
                tokens=tokens[rows],
                previous=features[rows],
                **some.encoded,
            )
            changes, tokens = active[rows], tokens.copy()
            arrays = (features, "features"), (log_probs, "log_probs"), (tokens, "best")
            for array, name in arrays:
                array[active] = outputs[name][changes]
            history.append(tokens)
            iterations += active
        if "search" not in self.graphs:
            return Decoded(tokens, log_probs, mask, targets.valid, iterations)
        outputs = self.graphs["search"](features=features)
        done = self.searched(outputs, mask, targets.valid, scored)
        every = np.repeat(iterations, self.crf_paths)
        return Decoded(done.tokens, done.log_probs, done.mask, done.valid, every)


def ended(outputs: Ints, mask: Bools, in_order: bool) -> Bools:
    """outputs (R,P,T) of the last P passes, oldest first -> (R,): the first one recurs."""
    last = np.where(mask[:, None], outputs, -1)
    if not in_order:
        last = np.sort(last, axis=2)
    result: Bools = (last[:, 1:] == last[:, :1]).all(axis=2).any(axis=1)
    return result

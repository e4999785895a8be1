"""The interface between a system's runtime and the engine, and what several systems share."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.runtime import search
from fairseq_nart.runtime.folder import Manifest
from fairseq_nart.runtime.graphs import Graph
from fairseq_nart.runtime.states import Arrays, Bools, Decoded, Source, Targets


class System:
    """Decodes with the graphs of a model. Each module of a system defines a `Runtime`."""

    Decoding: ClassVar[type[DecodingOptions]] = DecodingOptions
    """Checks options that depend on each other."""
    timed: ClassVar[tuple[tuple[str, str], ...]] = (("propose", "length"),)
    """Methods that a benchmark times, and their labels in tables."""

    def __init__(
        self,
        manifest: Manifest,
        graphs: Mapping[str, Graph],
        arrays: Arrays,
        options: Mapping[str, Any],
    ) -> None:
        """UserError if options do not fit together."""
        self.manifest = manifest
        self.graphs = graphs
        self.arrays = arrays
        known = self.Decoding.__dataclass_fields__
        self.checked: Any = self.Decoding(**{x: y for x, y in options.items() if x in known})
        """The options of `Decoding`, with its methods; `options` has all of the manifest."""
        self.options = SimpleNamespace(**options)
        self.crf_paths: int = options.get("crf_paths", 1)
        counts = (y for x, y in options.items() if manifest.decoding[x].candidates)
        self.candidates: int = math.prod(counts)
        """The most candidates of a sentence."""

    def encode(self, tokens: "np.ndarray[Any, np.dtype[np.int64]]") -> Source:
        """tokens (B,S), padded on the right -> the encoded source."""
        encoded = self.graphs["encode"](tokens=tokens)
        return Source(tokens, tokens != self.manifest.pad, encoded)

    def propose(self, source: Source) -> Targets:
        """The targets to decode for each sentence."""
        raise NotImplementedError

    def decode(self, source: Source, targets: Targets, scored: bool) -> Decoded:
        """Decodes the targets; log-probabilities may be 0 unless `scored`."""
        raise NotImplementedError

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest array of `encode` and `propose` for `source` tokens. ONNX Runtime
        stores the weights of attention."""
        return source * max(self.manifest.ffn_dim, self.manifest.heads * source)

    def row_elements(self, length: int, source: int) -> int:
        """Elements of the largest array for a target of `length` positions for `source` tokens."""
        vocabulary, paths = self.manifest.vocab_size, self.crf_paths
        slots = min(int(self.manifest.constants.get("crf_candidates", 0)), vocabulary)
        attention = self.manifest.heads * max(length, source)
        elements = length * max(vocabulary, self.manifest.ffn_dim, attention, slots**2)
        # All scores and back-pointers (int64), or the scores compared in one step.
        return max(elements, 3 * length * paths * slots, paths * slots**2)

    def searched(self, outputs: Arrays, mask: Bools, valid: Bools, scored: bool) -> Decoded:
        """Completes what a head computed in a graph; mask (R,T), valid (B,N)."""
        if "best" in outputs:
            return Decoded(outputs["best"], outputs["log_probs"], mask, valid)
        ids, scores, arrivals = (outputs[x] for x in ("ids", "scores", "arrivals"))
        lengths, paths = mask.sum(axis=1), self.crf_paths
        if paths == 1:
            slots = search.best_path(scores, arrivals, lengths)[:, None]
        else:
            totals, slots = search.k_best(scores, arrivals, lengths, paths)
            exists = (totals > -np.inf).reshape(*valid.shape, paths)
            valid = (valid[..., None] & exists).reshape(len(valid), -1)
        rows, _, length = slots.shape
        tokens = ids[np.arange(rows)[:, None, None], np.arange(length), slots]
        log_probs = np.zeros(slots.shape, np.float32)
        if scored:
            log_probs = search.log_probs(scores, arrivals, slots, lengths)
        flat = (len(mask) * paths, mask.shape[1])
        repeated = np.repeat(mask, paths, axis=0)
        return Decoded(tokens.reshape(flat), log_probs.reshape(flat), repeated, valid)

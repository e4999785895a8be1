"""Arrays passed between the parts of the runtime. B sentences, N targets each, R = B·N rows.

The runtime is NumPy code around ONNX graphs; the tensors of `fairseq_nart.layers.states` have the
same names and shapes.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Source:
    """B encoded sentences."""

    tokens: Ints
    """(B,S), padded on the right."""
    mask: Bools
    """(B,S)"""
    encoded: Arrays
    """The outputs of the graph `encode`, (B,...) each."""

    def select(self, rows: "slice | Ints") -> "Source":
        """The sentences at `rows`, which may repeat."""
        encoded = {name: array[rows] for name, array in self.encoded.items()}
        return Source(self.tokens[rows], self.mask[rows], encoded)


@dataclass(frozen=True)
class Targets:
    """N targets to decode for each sentence."""

    lengths: Ints
    """(B,N) number of positions."""
    valid: Bools
    """(B,N)"""
    more: Arrays = field(default_factory=dict)
    """Further arrays (B,N,...) of a system."""

    def select(self, sentences: slice, columns: list[int]) -> "Targets":
        """The targets in `columns` of `sentences`."""
        more = {name: array[sentences][:, columns] for name, array in self.more.items()}
        return Targets(self.lengths[sentences][:, columns], self.valid[sentences][:, columns], more)

    def mask(self) -> Bools:
        """(R,T) bool, True on the positions of each row."""
        return np.arange(self.lengths.max()) < self.lengths.reshape(-1, 1)


@dataclass(frozen=True)
class Decoded:
    """Raw outputs: rows of B sentences, adjacent."""

    tokens: Ints
    """(R,T)"""
    log_probs: Floats
    """(R,T), of each token in nats; 0 if they were not asked for."""
    mask: Bools
    """(R,T)"""
    valid: Bools
    """(B,N)"""
    iterations: Ints | int = 1
    """(R,) decoder passes, or one number for all."""

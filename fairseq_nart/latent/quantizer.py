"""The interface of quantisers."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fairseq_nart.latent.statistics import Usage


@dataclass(frozen=True)
class Quantized:
    """M latents of each of B sentences; arbitrary outside the mask."""

    vectors: Tensor
    """(B,M,D) discrete vectors, with the straight-through gradient of what was quantised."""
    labels: Tensor
    """(B,M,m) codes of 0..K-1, without gradient: m samples, or the one of the vector."""
    commitment: Tensor
    """() squared distance of what was quantised from the vectors: the mean over the width, the sum
    over latents."""


class Quantizer(Protocol):
    """Turns vectors into codes and codes into vectors."""

    codes: int
    """K, the number of codes."""
    usage: Usage
    """How often each code was used lately."""
    revives: bool
    """Whether training replaces codes that nothing uses."""

    def __call__(self, z: Tensor, mask: Tensor) -> Quantized:
        """z (B,M,D), mask (B,M) of the real latents. In training, updates the statistics."""

    def embed(self, codes: Tensor) -> Tensor:
        """codes (...) -> (...,D), the vectors that the decoder reads."""

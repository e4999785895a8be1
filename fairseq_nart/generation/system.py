"""The interface between a system and its users: the engine, the benchmark and exports."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.nn import Parameter

from fairseq_nart.generation.clean import Candidates
from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.states import Decoded, EncoderStates, Proposal


@dataclass(frozen=True)
class Request:
    """The input of `System.decode`."""

    states: EncoderStates
    """B encoded sentences."""
    proposal: Proposal
    """N targets of each sentence."""
    options: Any
    """The system's `Decoding` options."""
    log_probs: bool = True
    """If False, log-probabilities may be 0 where computing them is extra work."""


class Rescorer(Protocol):
    """A teacher that ranks candidates instead of the system itself."""

    def follow(self, parameter: Tensor) -> None:
        """Moves to the device and precision of the system's `parameter`."""

    def encode(self, source_tokens: Tensor, lengths: Tensor) -> Any:
        """source_tokens (B,S), lengths (B,) -> the encoded source for `log_probs`."""

    def log_probs(self, encoded: Any, rows: Tensor, candidates: Candidates) -> Tensor:
        """(BN,T) log-probability of each token; candidate r translates sentence rows[r]."""

    def score(self, log_probs: Tensor, mask: Tensor) -> Tensor:
        """log_probs and mask (BN,T) -> (BN,) sentence scores."""

    def sentence_elements(self, source: int) -> int:
        """Elements of the largest tensor of `encode` for a sentence of `source` tokens."""

    def row_elements(self, length: int, source: int) -> int:
        """Elements of the largest tensor of `log_probs` for a candidate of `length` tokens."""


class System(Protocol):
    """A non-autoregressive system.

    `encode` and `decode` compute only with tensors, so that they can be exported.
    """

    Decoding: type[DecodingOptions]
    """Its decoding options."""
    idle_options: tuple[str, ...]
    """Decoding options that have no effect on this model, as it is configured."""
    own_score: str
    """The normalization rule that ranks candidates without a teacher: see `normalize`."""
    widest_option: str | None
    """The decoding option that multiplies the memory of one sentence or one target."""
    vocab_size: int
    longest_target: int
    """Most tokens of a target, the EOS included."""

    def parameters(self) -> Iterator[Parameter]:
        """The model's weights."""

    def encode(self, source_tokens: Tensor) -> EncoderStates:
        """source_tokens (B,S), padded on either side -> the encoded source."""

    def propose(self, states: EncoderStates, options: Any) -> Proposal:
        """The targets to decode for each sentence."""

    def decode(self, request: Request) -> Decoded:
        """Decodes the proposed targets."""

    def sentence_elements(self, source: int, options: Any) -> int:
        """Elements of the largest tensor of `encode` and `propose` for a sentence of `source`
        tokens; int64 elements count twice."""

    def row_elements(self, length: int, source: int, options: Any) -> int:
        """Elements of the largest tensor of `decode` for one target of `length` positions."""

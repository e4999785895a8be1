"""What the server asks of a model; `fairseq_nart.runtime` has it."""

from collections.abc import Sequence
from typing import Any, Protocol


class Translation(Protocol):
    """One candidate translation of a line."""

    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float:
        """In nats."""


class Path(Protocol):
    """One candidate per position."""

    @property
    def columns(self) -> list[int]: ...
    @property
    def text(self) -> str: ...
    @property
    def log_prob(self) -> float:
        """In nats."""


class Lattice(Protocol):
    """T positions with C candidates each, best first."""

    @property
    def candidates(self) -> int:
        """Weighed per position, of which C are shown."""

    @property
    def tokens(self) -> list[list[str]]:
        """(T,C)"""

    @property
    def ranks(self) -> list[list[int]]:
        """(T,C)"""

    @property
    def emissions(self) -> Any:
        """Array (T,C) of log-probabilities."""

    @property
    def transitions(self) -> Any:
        """Array (T-1,C,C) of scores in nats."""

    @property
    def argmax(self) -> Path: ...
    @property
    def viterbi(self) -> Path: ...
    @property
    def differing(self) -> list[int]: ...


class Model(Protocol):
    """A model that one thread at a time uses."""

    @property
    def name(self) -> str: ...
    @property
    def system(self) -> str: ...
    @property
    def source_lang(self) -> str: ...
    @property
    def target_lang(self) -> str: ...
    @property
    def has_crf(self) -> bool: ...

    def translate_n_best(
        self, lines: Sequence[str], most: int | None = None
    ) -> Sequence[Sequence[Translation]]:
        """The candidates of each line, best first. UserError for a line it cannot translate."""

    def lattice(self, line: str, shown: int = 6) -> Lattice:
        """How the CRF decodes a line. UserError if there is no CRF or the line is empty."""

"""How much the server accepts."""

import dataclasses
from dataclasses import dataclass

from fairseq_nart.errors import UserError


@dataclass(frozen=True)
class Limits:
    """The most that a request may hold, and that may wait. UserError if one is below 1."""

    body: int = 1 << 20
    """Bytes of a request."""
    lines: int = 256
    """Lines of a request."""
    characters: int = 2000
    """Characters of a line."""
    waiting: int = 64
    """Requests that wait for the model or are being decoded."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise UserError(f"--max-{name} must be at least 1, not {value}")

"""Beam search settings for a teacher. Needs no torch."""

from dataclasses import dataclass, field

from fairseq_nart.errors import UserError
from fairseq_nart.options import require_in_range


@dataclass(frozen=True)
class Search:
    """Beam search settings, named and defined as in fairseq-generate."""

    beam: int = field(default=4, metadata={"at least": 1})
    lenpen: float = 1.0
    max_len_a: float = field(default=1.2, metadata={"at least": 0})
    max_len_b: int = 10
    """An output has at most a S + b tokens for a source of S tokens."""

    def __post_init__(self) -> None:
        require_in_range(self, Search)
        # The shortest source has one word and the EOS.
        if 2 * self.max_len_a + self.max_len_b < 1:
            raise UserError("--max-len-a and --max-len-b leave no room for a single token")

    def limit(self, length: int) -> int:
        """Most output tokens, the EOS excluded, for a source of `length` tokens."""
        return int(self.max_len_a * length + self.max_len_b)

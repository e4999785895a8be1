"""How sentences are to be decoded: the task's options, and which system understands which."""

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Optional


@dataclass
class DecodingOptions:
    """Options of decoding; a system names those that it understands."""

    length_candidates: int = field(
        default=1,
        metadata={"help": "target lengths decoded in parallel around the predicted one: 1, 9, 19"},
    )
    dedup: bool = field(
        default=False, metadata={"help": "collapse runs of one token, before any rescoring"}
    )
    ctc_beam: int = field(
        default=1,
        metadata={"help": "prefixes kept by CTC's beam search, all of them candidates; 1: greedy"},
    )
    refinement_iterations: Optional[int] = field(
        default=None,
        metadata={
            "help": "passes of the decoder of a refining system, the first guess counted "
            "(default: 10, or at most 20 with --refinement-stop)"
        },
    )
    refinement_stop: str = field(
        default="none",
        metadata={
            "help": "when a sentence's refinement ends before: equality (an output comes again "
            "among the four behind it), jaccard (its words do, in any order), unchanged (two in a "
            "row are the same) or none"
        },
    )
    fertility_decoding: str = field(
        default="argmax",
        metadata={"help": "the first candidate by fertilities: argmax or average (rounded mean)"},
    )
    fertility_samples: int = field(
        default=1,
        metadata={"help": "candidates by fertilities, in parallel: the first one and draws"},
    )

    def decoder_passes(self) -> int:
        """How many passes a refining system makes, at most; ValueError below 1."""
        if self.refinement_iterations is None:
            return 10 if self.refinement_stop == "none" else 20
        if self.refinement_iterations < 1:
            raise ValueError(
                "--refinement-iterations must be at least 1, which is the first guess alone, not "
                f"{self.refinement_iterations}"
            )
        return self.refinement_iterations


def require_understood(options: DecodingOptions, understood: Collection[str], system: str) -> None:
    """ValueError where an option is set that means nothing to the system."""
    for option in fields(options):
        is_set = getattr(options, option.name) != option.default
        if is_set and option.name not in understood:
            name = option.name.replace("_", "-")
            raise ValueError(f"--{name} means nothing to {system}: leave it out")

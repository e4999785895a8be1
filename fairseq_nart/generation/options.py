"""How sentences are to be decoded: the task's options, and which system understands which."""

import math
import operator
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Optional

from fairseq_nart.generation.stopping import STOPPING_RULES, RefinementStop


class FertilityDecoding(StrEnum):
    """The first candidate by fertilities: the most probable ones, or their rounded means."""

    argmax = "argmax"
    average = "average"


@dataclass
class DecodingOptions:
    """Options of decoding; a system names those that it understands.

    ValueError for an impossible value, which names its option.
    """

    length_candidates: int = field(
        default=1,
        metadata={"help": "target lengths decoded in parallel around the predicted one: 1, 9, 19"},
    )
    dedup: bool = field(
        default=False, metadata={"help": "collapse runs of one token, before any rescoring"}
    )
    crf_paths: int = field(
        default=1,
        metadata={
            "help": "best paths of a CRF for each length, all of them candidates",
            "at least": 1,
        },
    )
    ctc_beam: int = field(
        default=1,
        metadata={
            "help": "prefixes kept by CTC's beam search, all of them candidates; 1: greedy",
            "at least": 1,
        },
    )
    refinement_iterations: Optional[int] = field(
        default=None,
        metadata={
            "help": "passes of the decoder of a refining system, the first guess counted "
            "(default: 10, or at most 20 with --refinement-stop)",
            "at least": 1,
        },
    )
    refinement_stop: RefinementStop = field(
        default=RefinementStop.none,
        metadata={
            "help": "when a sentence's refinement ends before: equality (the output of four passes "
            "ago has come again since), jaccard (its words have, in any order) or unchanged (two "
            "passes in a row agree)"
        },
    )
    fertility_decoding: FertilityDecoding = field(
        default=FertilityDecoding.argmax,
        metadata={"help": "the first candidate by fertilities; average is their rounded mean"},
    )
    fertility_samples: int = field(
        default=1,
        metadata={
            "help": "candidates by fertilities, in parallel: the first one and samples",
            "at least": 1,
        },
    )

    def __post_init__(self) -> None:
        if self.length_candidates < 1 or self.length_candidates % 2 == 0:
            raise ValueError(
                "--length-candidates must be odd and positive (1, 9, 19, ...), "
                f"not {self.length_candidates}"
            )
        require_in_range(self, DecodingOptions)
        for name, known in (
            ("refinement_stop", list(RefinementStop)),
            ("fertility_decoding", list(FertilityDecoding)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{typed(name)} must be one of {', '.join(known)}, not {getattr(self, name)!r}"
                )
        rule = STOPPING_RULES[self.refinement_stop]
        if rule is not None and self.decoder_passes() <= rule.window:
            raise ValueError(
                f"--refinement-stop {self.refinement_stop} compares {rule.window} passes and so "
                f"ends none of {self.decoder_passes()}: give --refinement-iterations "
                f"{rule.window + 1} or more, or leave one of the two out"
            )

    def decoder_passes(self) -> int:
        """How many passes a refining system makes, at most."""
        if self.refinement_iterations is None:
            return 10 if self.refinement_stop == "none" else 20
        return self.refinement_iterations


MANY = ("length_candidates", "crf_paths", "ctc_beam", "fertility_samples")
"""The options that say how many candidates a sentence has."""


def require_understood(options: DecodingOptions, understood: Collection[str], system: str) -> None:
    """ValueError where an option is set that means nothing to the system."""
    for option in fields(options):
        is_set = getattr(options, option.name) != option.default
        if is_set and option.name not in understood:
            raise ValueError(f"{typed(option.name)} means nothing to {system}: leave it out")


_BOUNDS = {"at least": operator.ge, "at most": operator.le, "below": operator.lt}


def require_in_range(options: Any, kind: type) -> None:
    """Checks the numbers of `options`, which has the fields of the dataclass `kind`.

    ValueError names the first option that is not finite or outside the bounds in the metadata of
    its field: `at least`, `at most`, `below`.
    """
    for option in fields(kind):
        value = getattr(options, option.name)
        if not isinstance(value, (int, float)):
            continue
        bounds = {words: option.metadata[words] for words in _BOUNDS if words in option.metadata}
        inside = all(_BOUNDS[words](value, bound) for words, bound in bounds.items())
        if not (math.isfinite(value) and inside):
            range_ = " and ".join(f"{words} {bound}" for words, bound in bounds.items())
            wanted = range_ if math.isfinite(value) else f"a finite number {range_}".strip()
            raise ValueError(f"{typed(option.name)} must be {wanted}, not {value}")


def typed(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"

"""Decoding options that several systems share. Options of one system are in its own file.

A field's metadata holds its help and bounds (see `fairseq_nart.options`). If the option is a number
of items per sentence, the metadata names them: under `candidates` if a teacher can rank them, else
under `counts`. Under `tuned` are the values that `fairseq-nart tune` compares.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Optional

from fairseq_nart.errors import UserError
from fairseq_nart.generation.stopping import STOPPING_RULES, RefinementStop
from fairseq_nart.options import require_default, require_in_range


@dataclass
class DecodingOptions:
    """The base class, without options. UserError names an option with an invalid value."""

    def __post_init__(self) -> None:
        require_in_range(self, type(self))


@dataclass
class Deduplicating(DecodingOptions):
    """Options of systems whose output may repeat tokens."""

    dedup: bool = field(
        default=False, metadata={"help": "collapse repeated tokens, before any rescoring"}
    )


@dataclass
class LengthDecoding(Deduplicating):
    """Options of systems that first choose a target length."""

    length_candidates: int = field(
        default=1,
        metadata={
            "help": "target lengths decoded in parallel around the predicted one: 1, 9, 19",
            "candidates": "length",
        },
    )
    length_offset: int = field(
        default=0,
        metadata={
            "help": "tokens added to the predicted length; `fairseq-nart tune` finds the best on "
            "the validation set",
            "tuned": range(-2, 5),
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length_candidates < 1 or self.length_candidates % 2 == 0:
            raise UserError(
                "--length-candidates must be odd and positive (1, 9, 19, ...), "
                f"not {self.length_candidates}"
            )


@dataclass
class IterativeDecoding(LengthDecoding):
    """Options of systems that correct their output in several passes."""

    refinement_iterations: Optional[int] = field(
        default=None,
        metadata={
            "help": "decoder passes of an iterative system, the initial one included "
            "(default: 10, or at most 20 with --refinement-stop)",
            "at least": 1,
            "counts": "iteration",
        },
    )

    def decoder_passes(self) -> int:
        """The largest number of decoder passes."""
        return self.refinement_iterations or 10


@dataclass
class StoppingDecoding(IterativeDecoding):
    """Options of systems that can stop early, when a sentence no longer changes."""

    refinement_stop: RefinementStop = field(
        default=RefinementStop.none,
        metadata={
            "help": "when a sentence's refinement ends early: equality (the output of four passes "
            "earlier recurs), jaccard (its words recur, in any order) or unchanged (two passes in "
            "a row agree)"
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = STOPPING_RULES[self.refinement_stop]
        if rule is not None and self.decoder_passes() <= rule.window:
            raise UserError(
                f"--refinement-stop {self.refinement_stop} compares {rule.window} passes, so "
                f"{self.decoder_passes()} are too few: give --refinement-iterations "
                f"{rule.window + 1} or more, or leave one of the two out"
            )

    def decoder_passes(self) -> int:
        """The largest number of decoder passes; the default depends on `refinement_stop`."""
        if self.refinement_iterations is None and self.refinement_stop != RefinementStop.none:
            return 20
        return super().decoder_passes()


class PathSearch(StrEnum):
    """How a path through a graph is found; see `PathDecoding`."""

    greedy = "greedy"
    lookahead = "lookahead"
    viterbi = "viterbi"


@dataclass
class PathDecoding(Deduplicating):
    """Options of systems that choose a path through a graph of vertices."""

    dag_search: PathSearch = field(
        default=PathSearch.viterbi,
        metadata={
            "help": "how the path is found: the best move at each vertex (greedy), together with "
            "the token that follows (lookahead), or the best path and tokens (viterbi)"
        },
    )
    dag_length_penalty: float = field(
        default=1.0,
        metadata={
            "help": "viterbi divides a path's log-probability by its length to this power, so that "
            "a larger value gives longer outputs; `fairseq-nart tune` finds the best value on the "
            "validation set",
            "at least": 0,
            "tuned": [tenths / 10 for tenths in (0, 5, *range(7, 16), 20)],
        },
    )
    dag_paths: int = field(
        default=1,
        metadata={
            "help": "number of candidates of viterbi: the best paths of as many lengths",
            "at least": 1,
            "candidates": "length",
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dag_search == PathSearch.viterbi:
            return
        why = f"is for --dag-search viterbi, not {self.dag_search}: leave one of the two out"
        require_default(self, ("dag_length_penalty", "dag_paths"), why)

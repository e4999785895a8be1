"""The options that choose an aligner, for the tools that read word alignments."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from fairseq_nart.data.languages import choose
from fairseq_nart.data.splits import Split, open_splits
from fairseq_nart.errors import UserError
from fairseq_nart.options import require_positive
from fairseq_nart.tools import _model
from fairseq_nart.tools._teacher import Teacher
from fairseq_nart.tools.alignment.attention import AttentionAligner
from fairseq_nart.tools.alignment.eflomal_aligner import EflomalAligner
from fairseq_nart.tools.alignment.pharaoh import PharaohAligner
from fairseq_nart.tools.alignment.repair import Links


class Aligner(Protocol):
    """A source of word alignments."""

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of a split, apart from its sentences."""

    def links(self, split: Split) -> Iterator[Links]:
        """Yields the links of a split, CHUNK sentences at a time."""


def add_arguments(parser: argparse.ArgumentParser, splits: list[str], data: str) -> None:
    """Adds the data folder, with `data` as its help, the aligners, --splits, -s and -t."""
    parser.add_argument("data", type=Path, help=data)
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--teacher", type=Path, help="checkpoint whose attention provides the links")
    by.add_argument(
        "--pharaoh",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="links i-j of another aligner over the binarised subwords, one file per split",
    )
    by.add_argument(
        "--eflomal", action="store_true", help="align with eflomal, all splits as one corpus"
    )
    parser.add_argument(
        "--splits", nargs="+", default=splits, help=f"(default: {' '.join(splits)})"
    )
    parser.add_argument(
        "--layer", type=int, help="decoder layer of --teacher, from 1 (default: last but one)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=4096, help="source tokens in a batch of --teacher"
    )
    _model.languages(parser, "the teacher's, else the data's")


def opened(options: argparse.Namespace) -> tuple[list[Split], Aligner, tuple[str, str]]:
    """The splits, the aligner and the languages that the options name.

    UserError for options that do not fit together, and for data without targets.
    """
    data, names = options.data, options.splits
    if len(set(names)) != len(names):
        raise UserError(f"--splits must name each split once, not {' '.join(names)!r}")
    if options.layer is not None and not options.teacher:
        raise UserError("--layer is for --teacher: leave it out")
    require_positive(options, "max_tokens")
    asked = (options.source_lang, options.target_lang)
    teacher = Teacher.load(options.teacher, data, asked) if options.teacher else None
    pair = teacher.languages if teacher else choose(data, asked)
    splits = open_splits(data, names, pair)
    for split in splits:
        if split.target is None:
            raise UserError(f"{data}: {split.name} has no targets to align")
    if teacher:
        return splits, AttentionAligner(teacher, options.layer, options.max_tokens), pair
    if options.pharaoh:
        return splits, PharaohAligner(names, options.pharaoh), pair
    return splits, EflomalAligner(splits), pair

"""Extracts the phrase table of nart_enat_p from word alignments."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.data import Dictionary

from fairseq_nart.data import phrase_tables
from fairseq_nart.data.phrase_tables import Sides
from fairseq_nart.data.splits import Split
from fairseq_nart.errors import UserError
from fairseq_nart.layers.phrases import NONE
from fairseq_nart.options import require_positive
from fairseq_nart.tools.alignment import aligners
from fairseq_nart.tools.alignment.aligners import Aligner
from fairseq_nart.tools.alignment.phrases import PhraseCounts, Rows, pairs
from fairseq_nart.tools.alignment.repair import CHUNK, Ints


def pairs_of(split: Split, aligner: Aligner, longest: int) -> Iterator[Rows]:
    """Yields the phrase pairs of a split, of `CHUNK` sentences at a time; see `phrases.pairs`.

    Those with an unknown word are left out.
    """
    first = Dictionary().nspecial
    for number, links in enumerate(aligner.links(split)):
        rows = range(number * CHUNK, min((number + 1) * CHUNK, len(split.source)))
        (source, sources), (target, targets) = (
            _words(side, rows) for side in (split.source, split.target)
        )
        found = pairs(links, source, target, (sources, targets), longest)
        yield found[((found == NONE) | (found >= first)).all(axis=(1, 2))]


def _words(side: Any, rows: range) -> tuple[Ints, Ints]:
    """The tokens of some sentences without their ends, one after another, and their numbers."""
    sentences = [side[i].numpy()[:-1] for i in rows]
    return np.concatenate(sentences).astype(np.int64), np.array([len(one) for one in sentences])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart phrase-table`."""
    aligners.add_arguments(parser, ["train"], "folder of binarised data")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table")
    parser.add_argument(
        "--max-length", type=int, default=4, help="most subwords of a phrase (default: 4)"
    )
    parser.add_argument(
        "--min-count",
        type=int,
        default=2,
        help="least occurrences of a phrase pair (default: 2). Pairs that occur once tell the "
        "student the translation of their own sentence",
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart phrase-table`."""
    require_positive(options, "max_length", "min_count")
    splits, aligner, pair = aligners.opened(options)
    counts = PhraseCounts.none(options.max_length)
    for split in splits:
        for rows in pairs_of(split, aligner, options.max_length):
            counts = counts.add(rows)
    best, probabilities = counts.best(options.min_count)
    if not len(best.counts):
        raise UserError(f"no phrase pair occurs {options.min_count} times: lower --min-count")
    source, target = (Dictionary.load(str(options.data / f"dict.{x}.txt")) for x in pair)
    phrases = ([[i for i in x if i != NONE] for x in row] for row in best.rows.tolist())
    columns = zip(phrases, probabilities.tolist(), best.counts.tolist(), strict=True)
    lines = ((*both, probability, count) for both, probability, count in columns)
    phrase_tables.write(options.out, Sides(pair, (source, target)), lines)
    print(f"{options.out}: {len(best.counts)} source phrases")

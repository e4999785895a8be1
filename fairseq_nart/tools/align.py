"""Computes the fertilities of a data set's source tokens, on which nart_fertility is trained."""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairseq_nart.data.fertilities import fertilities_file
from fairseq_nart.data.languages import choose
from fairseq_nart.data.splits import Split, open_splits
from fairseq_nart.errors import UserError
from fairseq_nart.files import exclusive, read_json, replacing, write_json
from fairseq_nart.tools import _model
from fairseq_nart.tools._teacher import Teacher
from fairseq_nart.tools.alignment.attention import AttentionAligner
from fairseq_nart.tools.alignment.eflomal_aligner import EflomalAligner
from fairseq_nart.tools.alignment.pharaoh import PharaohAligner
from fairseq_nart.tools.alignment.repair import CHUNK, Links, fertilities


class Aligner(Protocol):
    """A source of word alignments."""

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of a split, apart from its sentences."""

    def links(self, split: Split) -> Iterator[Links]:
        """Yields the links of a split, CHUNK sentences at a time."""


def align(split: Split, aligner: Aligner, file: Path) -> None:
    """Writes the fertilities of a split to `file`, and how they were made to a JSON file beside it.

    Does nothing if `file` was already made in the same way. UserError for what the user can fix.
    """
    made_with = {**aligner.made_with(split), "sha256 of the data": split.sha256()}
    manifest = file.with_suffix(".json")
    done = read_json(manifest)
    if file.exists() and done is not None and done["made_with"] == made_with:
        print(f"{file} is finished: nothing to do")
        return
    sources, targets = (np.asarray(x.sizes, dtype=np.int64) for x in (split.source, split.target))
    chunks, counts = [], Counter[str]()
    for number, links in enumerate(aligner.links(split)):
        rows = slice(number * CHUNK, (number + 1) * CHUNK)
        chunk, chunk_counts = fertilities(links, sources[rows], targets[rows])
        chunks.append(chunk.astype(np.uint16))
        counts.update(chunk_counts)
    manifest.unlink(missing_ok=True)  # it does not describe the new file
    with replacing(file) as temporary, open(temporary, "wb") as stream:
        np.save(stream, np.concatenate(chunks))
    write_json(manifest, {"made_with": made_with, "sentences": len(sources), **counts})
    share = counts["unaligned_target_words"] / max(1, counts["target_words"])
    print(f"{file}: {len(sources)} sentences; {share:.1%} of the target words had no link")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart align`."""
    parser.add_argument(
        "data", type=Path, help="folder of binarised data; the fertilities are written there"
    )
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
        "--splits", nargs="+", default=["train", "valid"], help="(default: train valid)"
    )
    parser.add_argument(
        "--layer", type=int, help="decoder layer of --teacher, from 1 (default: last but one)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=4096, help="source tokens in a batch of --teacher"
    )
    _model.languages(parser, "the teacher's, else the data's")


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart align`."""
    data, names = options.data, options.splits
    if len(set(names)) != len(names):
        raise UserError(f"--splits must name each split once, not {' '.join(names)!r}")
    if options.layer is not None and not options.teacher:
        raise UserError("--layer is for --teacher: leave it out")
    if options.max_tokens < 1:
        raise UserError(f"--max-tokens must be at least 1, not {options.max_tokens}")
    asked = (options.source_lang, options.target_lang)
    teacher = Teacher.load(options.teacher, data, asked) if options.teacher else None
    pair = teacher.languages if teacher else choose(data, asked)
    splits = open_splits(data, names, pair)
    for split in splits:
        if split.target is None:
            raise UserError(f"{data}: {split.name} has no targets to align")
    aligner: Aligner
    if teacher:
        aligner = AttentionAligner(teacher, options.layer, options.max_tokens)
    elif options.pharaoh:
        aligner = PharaohAligner(names, options.pharaoh)
    else:
        aligner = EflomalAligner(splits)
    with exclusive(data):
        for split in splits:
            align(split, aligner, fertilities_file(data, split.name, *pair))

"""Fertilities of a data set's source tokens, which nart_fertility learns from."""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairseq_nart.files import exclusive, read_json, replacing, write_json
from fairseq_nart.tasks import _languages
from fairseq_nart.tasks._fertilities import file_of
from fairseq_nart.tools import _model
from fairseq_nart.tools.alignment.attention import AttentionAligner
from fairseq_nart.tools.alignment.eflomal_aligner import EflomalAligner
from fairseq_nart.tools.alignment.pharaoh import PharaohAligner
from fairseq_nart.tools.alignment.repair import CHUNK, Links, fertilities
from fairseq_nart.tools.distillation.data import Split, open_splits
from fairseq_nart.tools.distillation.teacher import Teacher


class Aligner(Protocol):
    """Anyone who knows which words go together."""

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of a split beside its sentences."""

    def links(self, split: Split) -> Iterator[Links]:
        """The links of a split, CHUNK sentences at a time."""


def align(split: Split, aligner: Aligner, file: Path) -> None:
    """Writes the fertilities of a split to `file`, and beside it how they were made.

    Nothing is done where the same is there. ValueError, in a line, for what the user can mend.
    """
    made_with = {**aligner.made_with(split), "sha256 of the data": split.sha256()}
    manifest = file.with_suffix(".json")
    done = read_json(manifest)
    if file.exists() and done is not None and done["made_with"] == made_with:
        print(f"{file} is finished: nothing to do")
        return
    sources, targets = (np.asarray(x.sizes, dtype=np.int64) for x in (split.source, split.target))
    parts, counts = [], Counter[str]()
    for number, links in enumerate(aligner.links(split)):
        here = slice(number * CHUNK, (number + 1) * CHUNK)
        part, found = fertilities(links, sources[here], targets[here])
        parts.append(part.astype(np.uint16))
        counts.update(found)
    manifest.unlink(missing_ok=True)  # it is not of the file to come
    with replacing(file) as temporary, open(temporary, "wb") as stream:
        np.save(stream, np.concatenate(parts))
    write_json(manifest, {"made_with": made_with, "sentences": len(sources), **counts})
    share = counts["unaligned_target_words"] / max(1, counts["target_words"])
    print(f"{file}: {len(sources)} sentences; {share:.1%} of the target words had no link")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart align`."""
    parser.add_argument("data", type=Path, help="binarised data; the fertilities go beside them")
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument(
        "--teacher", type=Path, help="checkpoint whose attention says which words go together"
    )
    by.add_argument(
        "--pharaoh",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="links i-j of another aligner over the binarised pieces, a file for each split",
    )
    by.add_argument(
        "--eflomal", action="store_true", help="align with eflomal, all splits as one corpus"
    )
    parser.add_argument(
        "--splits", nargs="+", default=["train", "valid"], help="(default: train valid)"
    )
    parser.add_argument(
        "--layer", type=int, help="decoder layer of --teacher, from 1 (default: the penultimate)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=4096, help="source tokens in a batch of --teacher"
    )
    _model.languages(parser, "the teacher's, else the data's")


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart align`."""
    data, names = options.data, options.splits
    if len(set(names)) != len(names):
        raise ValueError(f"--splits must name each split once, not {' '.join(names)!r}")
    if options.layer is not None and not options.teacher:
        raise ValueError("--layer is for --teacher: leave it out")
    if options.max_tokens < 1:
        raise ValueError(f"--max-tokens must be at least 1, not {options.max_tokens}")
    _languages.require_folder(data)
    asked = (options.source_lang, options.target_lang)
    teacher = Teacher.load(options.teacher, data, asked) if options.teacher else None
    languages = teacher.languages if teacher else _languages.choose(data, asked)
    splits = open_splits(data, names, languages)
    for split in splits:
        if split.target is None:
            raise ValueError(f"{data}: {split.name} has no targets to align")
    aligner: Aligner
    if teacher:
        aligner = AttentionAligner(teacher, options.layer, options.max_tokens)
    elif options.pharaoh:
        aligner = PharaohAligner(names, options.pharaoh)
    else:
        aligner = EflomalAligner(splits)
    with exclusive(data):
        for split in splits:
            align(split, aligner, file_of(data, split.name, *languages))

"""Fertilities of a data set's source tokens, which nart_fertility learns from."""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairseq_nart.tasks._fertilities import file_of
from fairseq_nart.tools._files import read_json, replacing, sha256, write_json
from fairseq_nart.tools.alignment.attention import AttentionAligner
from fairseq_nart.tools.alignment.eflomal_aligner import EflomalAligner
from fairseq_nart.tools.alignment.pharaoh import read_pharaoh
from fairseq_nart.tools.alignment.repair import CHUNK, Links, fertilities
from fairseq_nart.tools.distillation.data import Split
from fairseq_nart.tools.distillation.teacher import Teacher, language_pair


class Aligner(Protocol):
    """Anyone who knows which words go together."""

    def links(self, split: Split) -> Iterator[Links]:
        """The links of a split, CHUNK sentences at a time."""


@dataclass(frozen=True)
class PharaohAligner:
    """Files that another aligner has written, one for each split."""

    files: dict[str, Path]

    def links(self, split: Split) -> Iterator[Links]:
        """As `Aligner.links`."""
        return read_pharaoh(self.files[split.name], split)


def align(split: Split, aligner: Aligner, file: Path, made_with: dict[str, Any]) -> None:
    """Writes the fertilities of a split to `file`, and beside it how they were made.

    Nothing is done where the same is there. ValueError, in a line, for what the user can mend.
    """
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
    with replacing(file) as temporary, open(temporary, "wb") as stream:
        np.save(stream, np.concatenate(parts))
    write_json(manifest, {"made_with": made_with, "sentences": len(sources), **counts})
    share = counts["unaligned_target_words"] / max(1, counts["target_words"])
    print(
        f"{file}: {len(sources)} sentences, {share:.1%} of the target words had no link of their own"
    )


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
    for side in ("source", "target"):
        parser.add_argument(
            *(f"-{side[0]}", f"--{side}-lang"), help="(default: the teacher's, else the data's)"
        )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart align`."""
    if len(set(options.splits)) != len(options.splits):
        raise ValueError(f"--splits must name each split once, not {' '.join(options.splits)!r}")
    if options.layer is not None and not options.teacher:
        raise ValueError("--layer is for --teacher: leave it out")
    if options.max_tokens < 1:
        raise ValueError(f"--max-tokens must be at least 1, not {options.max_tokens}")
    teacher = Teacher.load(options.teacher, options.data) if options.teacher else None
    languages = teacher.languages if teacher else language_pair(options, options.data)
    splits = [Split.open(options.data, name, languages) for name in options.splits]
    for split in splits:
        if split.target is None:
            raise ValueError(f"{options.data}: {split.name} has no targets to align")
    aligner: Aligner
    if teacher:
        aligner = AttentionAligner(teacher, options.layer, options.max_tokens)
        how = {"sha256 of --teacher": teacher.record["sha256"], "--layer": aligner.layer}
    elif options.pharaoh:
        if len(options.pharaoh) != len(splits):
            raise ValueError(
                f"--pharaoh names {len(options.pharaoh)} files and --splits {len(splits)} splits: "
                "give a file for each split, in their order"
            )
        aligner = PharaohAligner(dict(zip(options.splits, options.pharaoh, strict=True)))
        how = {}
    else:
        aligner = EflomalAligner(splits)
        how = {"--eflomal with": list(options.splits)}
    for split in splits:
        made_with = {
            **how,
            "sha256 of the sources": split.source_sha256(),
            "sha256 of the targets": split.target_sha256(),
        }
        if options.pharaoh:
            made_with["sha256 of --pharaoh"] = sha256(aligner.files[split.name])
        align(split, aligner, file_of(options.data, split.name, *languages), made_with)

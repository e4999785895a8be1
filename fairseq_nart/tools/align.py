"""Computes the fertilities of a data set's source tokens, on which nart_fertility is trained."""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from fairseq_nart.data.fertilities import fertilities_file
from fairseq_nart.data.splits import Split
from fairseq_nart.files import exclusive, read_json, replacing, write_json
from fairseq_nart.tools.alignment import aligners
from fairseq_nart.tools.alignment.aligners import Aligner
from fairseq_nart.tools.alignment.repair import CHUNK, fertilities


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
    data = "folder of binarised data; the fertilities are written there"
    aligners.add_arguments(parser, ["train", "valid"], data)


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart align`."""
    splits, aligner, pair = aligners.opened(options)
    with exclusive(options.data):
        for split in splits:
            align(split, aligner, fertilities_file(options.data, split.name, *pair))

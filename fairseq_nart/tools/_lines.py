"""Translates a text as a stream, in the order of its lines."""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from fairseq_nart.errors import UserError
from fairseq_nart.options import require_allowed
from fairseq_nart.text import decode_lines

CHUNK = 2048
"""Lines that are sorted by length and translated together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the text and --batch-size."""
    parser.add_argument(
        "file", type=Path, nargs="?", help="text, one sentence per line (default: standard input)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="sentences per batch (default: 64)"
    )


def require_batch_size(options: argparse.Namespace) -> None:
    """UserError if --batch-size is below 1."""
    require_allowed("batch_size", options.batch_size, (), {"at least": 1})


def translate(
    options: argparse.Namespace, translator: Callable[[list[str], int, int], list[str]]
) -> None:
    """Prints the translations; `translator` takes lines, a batch size and the first's number."""
    name = str(options.file or "standard input")
    with open(options.file, "rb") if options.file else sys.stdin.buffer as text:
        for first, lines in _chunks(decode_lines(text, name)):
            try:
                translations = translator(lines, options.batch_size, first)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
            for line in translations:
                print(line)
            sys.stdout.flush()


def _chunks(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the lines to translate together, with the number of the first, counted from 1."""
    with tqdm(desc="translated", unit=" lines", disable=None) as bar:
        for first in itertools.count(1, CHUNK):
            if not (chunk := list(itertools.islice(lines, CHUNK))):
                return
            yield first, chunk
            bar.update(len(chunk))

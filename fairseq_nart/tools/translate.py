"""Translates text with a non-autoregressive model, line by line."""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from fairseq.dataclass.utils import gen_parser_from_dataclass
from tqdm import tqdm

from fairseq_nart import hub
from fairseq_nart.errors import UserError
from fairseq_nart.tasks._options import decoding_config
from fairseq_nart.text import decode_lines
from fairseq_nart.tools import _model

CHUNK = 2048
"""Lines that are sorted by length and translated together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart translate`."""
    parser.add_argument(
        "file", type=Path, nargs="?", help="text, one sentence per line (default: standard input)"
    )
    _model.add_arguments(parser, "checkpoint of a non-autoregressive model")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if available)")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="sentences per batch (default: 64)"
    )
    gen_parser_from_dataclass(parser.add_argument_group("decoding"), decoding_config()())


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart translate`."""
    if options.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {options.batch_size}")
    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        raise UserError("--device cuda: torch sees no GPU; leave it out, or type --device cpu")
    if options.device == "cuda" and options.int8:
        raise UserError("--int8 is for a CPU: type --device cpu, or leave one of the two out")
    decoding = {name: getattr(options, name) for name in hub.decoding_options()}
    translator = _model.load(options, **decoding)
    translator.to(options.device or ("cuda" if has_gpu and not options.int8 else "cpu"))
    name = str(options.file or "standard input")
    with open(options.file, "rb") if options.file else sys.stdin.buffer as text:
        for first, lines in _chunks(decode_lines(text, name)):
            try:
                translations = translator.translate(lines, options.batch_size, first)
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

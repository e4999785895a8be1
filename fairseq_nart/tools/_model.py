"""A trained model with its text processing, as tools that read raw text ask for it."""

import argparse
from pathlib import Path
from typing import Any

from fairseq_nart import hub
from fairseq_nart.compat.allocator import keep_freed_memory


def add_arguments(parser: argparse.ArgumentParser, path: str) -> None:
    """--path, with `path` as its help, --data and --sentencepiece."""
    parser.add_argument("--path", type=Path, required=True, help=path)
    parser.add_argument(
        "--data", type=Path, help="binarised data (default: what the model was trained on)"
    )
    parser.add_argument(
        "--sentencepiece",
        type=Path,
        metavar="MODEL",
        help="segments the source and joins the translation (default: it comes segmented)",
    )


def load(options: argparse.Namespace, **decoding: Any) -> hub.Translator:
    """The model that was asked for; ValueError as `hub.from_pretrained` says."""
    keep_freed_memory()
    return hub.from_pretrained(options.path, options.data, options.sentencepiece, **decoding)

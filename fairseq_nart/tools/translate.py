"""Translates text, line by line, with an exported model, or with a checkpoint (--path).

`fairseq-nart translate --path CHECKPOINT --help` lists the options of a checkpoint.
"""

import argparse
import sys
from pathlib import Path

from fairseq_nart import runtime
from fairseq_nart.options import require_positive
from fairseq_nart.tools import _decoding, _lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart translate`."""
    _lines.add_arguments(parser)
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="folder of fairseq-nart export (default: a small model of the demo)",
    )
    parser.add_argument("--threads", type=int, help="threads (default: one per core, at most 4)")
    rescoring = parser.add_mutually_exclusive_group()
    rescoring.add_argument(
        "--rescore-best",
        type=int,
        metavar="N",
        help="the teacher ranks only the N candidates that the model itself scores best",
    )
    rescoring.add_argument(
        "--no-rescore",
        dest="rescore",
        action="store_const",
        const=False,
        help="rank several candidates by the model's own score, although there is a teacher",
    )
    _decoding.add_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart translate`."""
    require_positive(options, "batch_size")
    folder = options.model or runtime.demo_folder()
    if options.model is None:
        print(f"no --model: translating with the demo's, {folder}", file=sys.stderr)
    decoding = _decoding.decoding(options)
    given = {name: getattr(options, name) for name in ("rescore", "rescore_best")}
    decoding |= {name: value for name, value in given.items() if value is not None}
    model = runtime.load(folder, options.threads, **decoding)
    _lines.translate(options, model.translate)

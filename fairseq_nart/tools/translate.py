"""Translates text, line by line, with an exported model, or with a checkpoint (--path).

`fairseq-nart translate --path CHECKPOINT --help` lists the options of a checkpoint.
"""

import argparse
import sys
from pathlib import Path

from fairseq_nart import runtime
from fairseq_nart.errors import UserError
from fairseq_nart.tools import _lines


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
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a decoding option of the model, such as length_candidates=9; its README.md lists "
        "them. Can be repeated",
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart translate`."""
    _lines.require_batch_size(options)
    folder = options.model or runtime.demo_folder()
    if options.model is None:
        print(f"no --model: translating with the demo's, {folder}", file=sys.stderr)
    decoding = dict(map(_option, options.option))
    given = {name: getattr(options, name) for name in ("rescore", "rescore_best")}
    decoding |= {name: value for name, value in given.items() if value is not None}
    model = runtime.load(folder, options.threads, **decoding)
    _lines.translate(options, model.translate)


def _option(words: str) -> tuple[str, int | bool | str]:
    name, equals, value = words.partition("=")
    if not equals:
        raise UserError(f"--option {words} must be NAME=VALUE, such as length_candidates=9")
    known: dict[str, bool] = {"true": True, "false": False}
    if value.lower() in known:
        return name, known[value.lower()]
    return name.replace("-", "_"), int(value) if value.lstrip("-").isdigit() else value



"""Translates text with a checkpoint (--path), line by line; without --path, with an exported model.

An exported model starts four times as fast and needs no torch: `fairseq-nart translate --help`.
"""

import argparse

import torch
from fairseq.dataclass.utils import gen_parser_from_dataclass

from fairseq_nart import hub
from fairseq_nart.errors import UserError
from fairseq_nart.tasks._options import decoding_config
from fairseq_nart.tools import _lines, _model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart translate --path CHECKPOINT`."""
    _lines.add_arguments(parser)
    _model.add_arguments(parser, "checkpoint of a non-autoregressive model")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if available)")
    gen_parser_from_dataclass(parser.add_argument_group("decoding"), decoding_config()())


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart translate --path CHECKPOINT`."""
    _lines.require_batch_size(options)
    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        raise UserError("--device cuda: torch sees no GPU; leave it out, or type --device cpu")
    decoding = {name: getattr(options, name) for name in hub.decoding_options()}
    translator = _model.load(options, **decoding)
    translator.to(options.device or ("cuda" if has_gpu else "cpu"))
    _lines.translate(options, translator.translate)

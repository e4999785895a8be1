"""Translates text with a checkpoint (--path), line by line; without --path, with an exported model.

An exported model starts faster and needs no torch: `fairseq-nart translate --help`.
"""

import argparse

from fairseq_nart.options import require_positive
from fairseq_nart.tools import _lines, _model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart translate --path CHECKPOINT`."""
    _lines.add_arguments(parser)
    _model.add_arguments(parser, "checkpoint of a non-autoregressive model")
    _model.add_decoding_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart translate --path CHECKPOINT`."""
    require_positive(options, "batch_size")
    _lines.translate(options, _model.load_for_decoding(options).translate)

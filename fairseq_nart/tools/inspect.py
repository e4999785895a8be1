"""Draws what the CRF does with one sentence: candidates, transitions, argmax and Viterbi paths."""

import argparse
from pathlib import Path

from fairseq_nart.errors import UserError
from fairseq_nart.models.nart import Nart
from fairseq_nart.runtime.lattice import Lattice
from fairseq_nart.tools import _model
from fairseq_nart.tools.inspection.lattice import decode_lattice

NO_MATPLOTLIB = "a picture needs matplotlib: pip install matplotlib"
SUFFIXES = (".png", ".pdf", ".svg")


def describe(lattice: Lattice) -> str:
    """Both translations with their log-probabilities in nats, and where the paths differ."""
    lines = [
        f"{path.name:<8} log p {path.log_prob:z8.2f}  {path.text}"
        for path in (lattice.argmax, lattice.viterbi)
    ]
    if not lattice.differing:
        return "\n".join([*lines, "they agree at every position"])
    lines.append(f"they differ at {len(lattice.differing)} of {len(lattice.tokens)} positions:")
    for position in lattice.differing:
        tokens = lattice.tokens[position]
        one, other = (tokens[path.columns[position]] for path in (lattice.argmax, lattice.viterbi))
        lines.append(f"{position + 1:5}  {one} → {other}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart inspect`."""
    parser.add_argument("sentence", metavar="SENTENCE", help="source sentence, in quotes")
    _model.add_arguments(parser, "checkpoint of a model with a CRF")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=f"picture: {', '.join(SUFFIXES)}"
    )
    parser.add_argument(
        "--candidates", type=int, default=6, metavar="N", help="shown per position (default: 6)"
    )
    parser.add_argument(
        "--length",
        type=int,
        metavar="N",
        help="target tokens, end of sentence included (default: the predicted length)",
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart inspect`."""
    try:
        from fairseq_nart.tools.inspection.picture import MOST_CANDIDATES, draw
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        raise UserError(NO_MATPLOTLIB) from error
    if options.out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {options.out} must end in one of {', '.join(SUFFIXES)}")
    if not 2 <= options.candidates <= MOST_CANDIDATES:
        raise UserError(f"--candidates must be 2 to {MOST_CANDIDATES}, not {options.candidates}")
    translator = _model.load(options)
    model = translator.model
    one_pass = isinstance(model, Nart) and type(model).decode is Nart.decode
    if not one_pass or model.crf is None:
        raise UserError(
            f"{options.path} is a model without a CRF, or one that needs several passes, so it has "
            "no lattice to show: give a checkpoint of nart_crf or nart_dcrf as --path"
        )
    lattice = decode_lattice(translator, options.sentence, options.candidates, options.length)
    print(describe(lattice))
    draw(lattice, options.out)
    print(f"picture: {options.out}")

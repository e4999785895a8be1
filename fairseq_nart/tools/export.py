"""Exports a trained model as a folder that translates without torch and fairseq."""

import argparse
import dataclasses
import tempfile
from pathlib import Path

from fairseq.dataclass.utils import gen_parser_from_dataclass

from fairseq_nart import hub
from fairseq_nart.errors import UserError
from fairseq_nart.options import require_allowed
from fairseq_nart.tasks._options import decoding_config
from fairseq_nart.tools import _model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart export`."""
    _model.add_arguments(parser, "checkpoint of a non-autoregressive model", option=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder")
    parser.add_argument(
        "--precision",
        choices=("float32", "int8"),
        default="int8",
        help="of weights and products (default: int8)",
    )
    parser.add_argument(
        "--teacher",
        dest="rescore_with",
        metavar="CHECKPOINT",
        help="autoregressive Transformer that ranks candidates, exported too",
    )
    parser.add_argument(
        "--crf-candidates",
        type=int,
        metavar="K",
        help="CRF candidates per position (default: as trained). Fewer are faster: 8 gave the same "
        "BLEU as 64 (docs/results/crf-candidates.md); compare them on your validation set",
    )
    parser.add_argument("--bleu", type=float, help="BLEU of the model, for its card")
    decoding = parser.add_argument_group("decoding", "defaults of the folder")
    gen_parser_from_dataclass(decoding, decoding_config()())


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart export`."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing: pip install onnx onnxruntime") from error
    from fairseq_nart.export import check, folder

    if options.bleu is not None:
        require_allowed("bleu", options.bleu, (), {"at least": 0, "at most": 100})
    decoding = {name: getattr(options, name) for name in hub.decoding_options()}
    translator = _model.load(options, **decoding)
    if options.crf_candidates is not None:
        folder.limit_candidates(translator.model, options.crf_candidates)
    request = folder.Request(
        arch=translator.arch,
        precision=options.precision,
        sentencepiece=options.sentencepiece,
        teacher=options.rescore_with,
        bleu=options.bleu,
    )
    with folder.new_folder(options.out) as temporary:
        if options.precision == "int8":  # whose scores differ: a wrong graph would not show
            with tempfile.TemporaryDirectory() as unquantized:
                exact = dataclasses.replace(request, precision="float32")
                folder.write(translator, exact, Path(unquantized))
                check.check(translator, Path(unquantized), "float32")
        folder.write(translator, request, temporary)
        check.check(translator, temporary, options.precision)
        size = sum(file.stat().st_size for file in temporary.iterdir())
    print(f"exported: {options.out} ({size / 1e6:.1f} MB)")

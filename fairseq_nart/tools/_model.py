"""Options and loading of a model with its text processing, for tools that read raw text."""

import argparse
from pathlib import Path
from typing import Any

import torch
from fairseq.dataclass.utils import gen_parser_from_dataclass

from fairseq_nart import hub
from fairseq_nart.compat.allocator import keep_freed_memory
from fairseq_nart.errors import UserError
from fairseq_nart.tasks._options import decoding_config


def add_arguments(parser: argparse.ArgumentParser, path: str, option: bool = True) -> None:
    """Adds --path, with `path` as its help, --data, -s, -t and --sentencepiece.

    Without `option` the checkpoint is the first argument.
    """
    if option:
        parser.add_argument("--path", type=Path, required=True, help=path)
    else:
        parser.add_argument("path", type=Path, metavar="CHECKPOINT", help=path)
    parser.add_argument(
        "--data",
        type=Path,
        help="folder with the dictionaries (default: the binarised training data)",
    )
    languages(parser, "the checkpoint's, else the data's")
    parser.add_argument(
        "--sentencepiece",
        type=Path,
        metavar="MODEL",
        help="segments the source and joins the translation (default: the input is segmented)",
    )


def languages(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds -s and -t; `default` describes their default in the help."""
    for side in ("source", "target"):
        parser.add_argument(
            f"-{side[0]}",
            f"--{side}-lang",
            metavar=side.upper(),
            help=f"{side} language (default: {default})",
        )


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --device and the decoding options."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if available)")
    gen_parser_from_dataclass(parser.add_argument_group("decoding"), decoding_config()())


def load_for_decoding(options: argparse.Namespace) -> hub.Translator:
    """`load` with the decoding options, on the device; UserError if torch sees no such device."""
    chosen = device(options.device)
    decoding = {name: getattr(options, name) for name in hub.decoding_options()}
    return load(options, **decoding).to(chosen)


def device(asked: str | None) -> str:
    """The device asked for, by default a GPU if there is one. UserError if torch sees none."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU; leave it out, or type --device cpu")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def load(options: argparse.Namespace, **decoding: Any) -> hub.Translator:
    """Loads the model that the options name; raises UserError as `hub.from_pretrained` does."""
    keep_freed_memory()
    return hub.from_pretrained(
        options.path,
        options.data,
        options.sentencepiece,
        options.source_lang,
        options.target_lang,
        **decoding,
    )

"""Decodes the byte pieces of sentencepiece models with byte fallback.

``--remove-bpe sentencepiece``, ``--eval-bleu`` and ``fairseq-interactive --bpe sentencepiece`` join
pieces themselves and leave byte pieces as they are: ``<0x48>ello`` for Hello.
"""

import importlib
from collections.abc import Callable
from typing import Any

from fairseq_nart.compat._patch import wrap
from fairseq_nart.subwords import join_pieces


def decode_bytes() -> None:
    """Fix both functions; every caller looks them up in their module or class."""
    wrap(importlib.import_module("fairseq.data.data_utils"), "post_process", _post_process)
    module = importlib.import_module("fairseq.data.encoders.sentencepiece_bpe")
    wrap(module.SentencepieceBPE, "decode", _decode)


def _post_process(original: Callable[..., Any], sentence: str, symbol: str) -> Any:
    if symbol == "sentencepiece":
        return join_pieces(sentence.split(" "))
    return original(sentence, symbol)


def _decode(_original: Callable[..., Any], _bpe: Any, pieces: str) -> str:
    return join_pieces(pieces.split(" "))

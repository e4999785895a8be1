"""Segments text into subwords and joins them again."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fairseq_nart.errors import UserError

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a space in sentencepiece's pieces."""

UNKNOWN = "<unk>"
"""fairseq's symbol for an unknown word; it is kept in the text."""

_UNKNOWN_PLACEHOLDER = "\ufdd0"  # a noncharacter, so no model has it as a piece
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("[\r\n]+")
_LFS = b"version https://git-lfs"


def subword_scheme(symbols: Iterable[str]) -> str | None:
    """The value of fairseq's --remove-bpe that fits the symbols of a dictionary; None for words."""
    scheme = None
    for symbol in symbols:
        if symbol.startswith(SPACE) or symbol.endswith(SPACE):
            return "sentencepiece"
        if symbol.endswith("@@"):
            scheme = "@@ "
    return scheme


def join_pieces(pieces: Iterable[str]) -> str:
    """The text of sentencepiece's pieces, as a model without denormalization rules decodes them.

    Pieces such as <0xE8>, from models with byte fallback, are UTF-8 bytes. Each byte of an
    incomplete character becomes U+FFFD, and line ends become spaces.
    """
    text = bytearray()
    for piece in pieces:
        byte = _BYTE.fullmatch(piece)
        text += bytes.fromhex(byte[1]) if byte else piece.replace(SPACE, " ").encode()
    decoded = _SURROGATE.sub("\ufffd", text.decode("utf-8", "surrogateescape"))
    return _LINE_END.sub(" ", decoded).strip()


class Subwords:
    """Segments text with a sentencepiece model. Without one, input must already be segmented.

    `scheme` is the dictionary's `subword_scheme`, and `how` tells the user how to give a missing
    model. UserError if `model` is not a sentencepiece model.
    """

    def __init__(
        self,
        model: str | Path | None,
        scheme: str | None = None,
        how: str = "give the model (--sentencepiece MODEL; in Python sentencepiece=)",
    ) -> None:
        self.model = None if model is None else load_model(model)
        self.scheme = scheme
        self.how = how

    @property
    def takes_text(self) -> bool:
        """Whether `encode` takes plain text rather than segmented lines."""
        return self.model is not None or self.scheme is None

    def encode(self, line: str) -> list[str]:
        """The subwords of a line, in which lone surrogates are U+FFFD.

        UserError if it should already be segmented and is not.
        """
        line = _SURROGATE.sub("\ufffd", line)
        if self.model is not None:
            pieces: list[str] = self.model.encode(line, out_type=str)
            return pieces
        if self.scheme == "sentencepiece" and line.strip() and SPACE not in line:
            shown = line if len(line) <= 40 else f"{line[:40]}..."
            raise UserError(
                f"{shown!r} is not segmented, but the dictionary holds sentencepiece's pieces: "
                f"{self.how}"
            )
        return line.split()

    def decode(self, pieces: list[str]) -> str:
        """Joins subwords to a line of text; without a model as fairseq-generate --remove-bpe."""
        if self.model is not None:
            known = [_UNKNOWN_PLACEHOLDER if piece == UNKNOWN else piece for piece in pieces]
            text: str = self.model.decode(known)
            # The model leaves a piece that it does not have unchanged.
            text = text.replace(_UNKNOWN_PLACEHOLDER, UNKNOWN).replace(SPACE, " ")
            return _LINE_END.sub(" ", text).strip()  # byte pieces can spell line ends
        if self.scheme == "sentencepiece":
            return join_pieces(pieces)
        return f"{' '.join(pieces)} ".replace("@@ ", "").rstrip()


def load_model(file: str | Path) -> Any:
    """The sentencepiece model in `file`. OSError or UserError names a file that is not one."""
    import sentencepiece

    with open(file, "rb") as stream:
        content = stream.read()
    if content.startswith(_LFS):
        raise UserError(f"{file} is a Git LFS pointer, not the model: run `git lfs pull`")
    try:
        if content:  # sentencepiece accepts an empty file as a model without pieces
            return sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError:
        pass
    advice = f": give {Path(file).stem}.model" if Path(file).suffix == ".vocab" else ""
    raise UserError(f"{file} is not a sentencepiece model{advice}")

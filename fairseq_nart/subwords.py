"""Text to the pieces a model knows, and back."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a space in sentencepiece's pieces."""

UNKNOWN = "<unk>"
"""fairseq's word for what its dictionary lacks; it stays in the text."""

_PLACE_OF_UNKNOWN = "\ufdd0"  # no character, so no model has it as a piece
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_LFS = b"version https://git-lfs"


def subword_scheme(symbols: Iterable[str]) -> str | None:
    """What fairseq's --remove-bpe must be told, read off the symbols of a dictionary."""
    scheme = None
    for symbol in symbols:
        if symbol.startswith(SPACE) or symbol.endswith(SPACE):
            return "sentencepiece"
        if symbol.endswith("@@"):
            scheme = "@@ "
    return scheme


def join_pieces(pieces: Iterable[str]) -> str:
    """The text of sentencepiece's pieces, as a model without rules of its own decodes them.

    Pieces such as <0xE8>, of models with byte fallback, are bytes of UTF-8; what they do not
    complete becomes U+FFFD, one for each byte.
    """
    text = bytearray()
    for piece in pieces:
        byte = _BYTE.fullmatch(piece)
        text += bytes.fromhex(byte[1]) if byte else piece.replace(SPACE, " ").encode()
    return _NOT_UTF8.sub("\ufffd", text.decode("utf-8", "surrogateescape")).strip()


class Subwords:
    """A sentencepiece model; without one lines come in pieces, divided by spaces.

    `scheme` is what `subword_scheme` says of the dictionary; ValueError where `model` is no
    sentencepiece model.
    """

    def __init__(self, model: str | Path | None, scheme: str | None = None) -> None:
        self.model = None if model is None else load_model(model)
        self.scheme = scheme

    @property
    def takes_text(self) -> bool:
        """Whether `encode` takes plain text, not lines in pieces."""
        return self.model is not None or self.scheme is None

    def encode(self, line: str) -> list[str]:
        """The pieces of a line. ValueError where it should come in sentencepiece's and does not."""
        if self.model is not None:
            pieces: list[str] = self.model.encode(line, out_type=str)
            return pieces
        if self.scheme == "sentencepiece" and line.strip() and SPACE not in line:
            shown = line if len(line) <= 40 else f"{line[:40]}..."
            raise ValueError(
                f"{shown!r} is not in pieces, and the dictionary is of sentencepiece's: give the "
                "model that segments text (--sentencepiece MODEL; in Python sentencepiece=)"
            )
        return line.split()

    def decode(self, pieces: list[str]) -> str:
        """The text of pieces; without a model as fairseq-generate --remove-bpe writes it."""
        if self.model is not None:
            known = [_PLACE_OF_UNKNOWN if piece == UNKNOWN else piece for piece in pieces]
            text: str = self.model.decode(known)
            # A piece that the model does not have comes back as it is.
            return text.replace(_PLACE_OF_UNKNOWN, UNKNOWN).replace(SPACE, " ").strip()
        if self.scheme == "sentencepiece":
            return join_pieces(pieces)
        return f"{' '.join(pieces)} ".replace("@@ ", "").rstrip()


def load_model(file: str | Path) -> Any:
    """The sentencepiece model in `file`; OSError or ValueError naming the file where it is none."""
    import sentencepiece

    with open(file, "rb") as stream:
        content = stream.read()
    if content.startswith(_LFS):
        raise ValueError(f"{file} is a pointer of Git LFS, not the model: run `git lfs pull`")
    try:
        if content:  # nothing would be a model without pieces
            return sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError:
        pass
    advice = f": give {Path(file).stem}.model" if Path(file).suffix == ".vocab" else ""
    raise ValueError(f"{file} is not a sentencepiece model{advice}")

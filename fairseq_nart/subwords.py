"""Text to the pieces a model knows, and back."""

from pathlib import Path


class Subwords:
    """A sentencepiece model; without one lines come in pieces, divided by spaces, and go so, those
    of BPE (`@@ `) joined."""

    def __init__(self, model: str | Path | None) -> None:
        self.model = None
        if model is not None:
            import sentencepiece

            self.model = sentencepiece.SentencePieceProcessor(model_file=str(model))

    def encode(self, line: str) -> list[str]:
        """The pieces of a line."""
        if self.model is None:
            return line.split()
        pieces: list[str] = self.model.encode(line, out_type=str)
        return pieces

    def decode(self, pieces: list[str]) -> str:
        """As fairseq-generate --remove-bpe writes it."""
        if self.model is None:
            return f"{' '.join(pieces)} ".replace("@@ ", "").rstrip()
        return "".join(pieces).replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip()

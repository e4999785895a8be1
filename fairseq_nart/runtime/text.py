"""From text to token ids and back."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from fairseq_nart.errors import UserError, name_line
from fairseq_nart.runtime.folder import Manifest
from fairseq_nart.subwords import Subwords, subword_scheme

logger = logging.getLogger(__name__)


class Text:
    """Segments lines, numbers their subwords, and joins translations."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        source, target = (_symbols(folder / name) for name in manifest.vocabularies)
        self.manifest = manifest
        self.ids = {symbol: index for index, symbol in enumerate(source)}
        self.symbols = target
        schemes = {subword_scheme(source), subword_scheme(target)}
        model = folder / manifest.subwords if manifest.subwords else None
        self.subwords = Subwords(
            model,
            schemes.pop() if len(schemes) == 1 else None,
            how="export the model with --sentencepiece, or segment the text",
        )
        self.special = {manifest.pad, manifest.bos, manifest.eos}

    def encode(self, line: str, number: int) -> list[int]:
        """The token ids of a line, the EOS last.

        Special symbols spelled in the text are unknown words. A longer line than the model's
        longest source is cut, with a warning that gives its `number`.
        """
        try:
            # As fairseq reads a line: any white space divides tokens.
            pieces = " ".join(self.subwords.encode(line.strip())).split()
        except UserError as error:
            name_line(number, error)
        return self.numbered(pieces, number)

    def numbered(self, pieces: Sequence[str], number: int = 1) -> list[int]:
        """The token ids of `pieces`, as in `encode`."""
        one = self.manifest
        most = one.longest_source - 1
        if len(pieces) > most:
            logger.warning(
                "line %d has %d tokens: only the first %d are translated",
                *(number, len(pieces) + 1, most + 1),
            )
        ids = [self.ids.get(piece, one.unk) for piece in pieces[:most]]
        return [*(one.unk if i in self.special else i for i in ids), one.eos]

    def decode(self, tokens: Sequence[int]) -> str:
        """Target token ids as text."""
        return self.subwords.decode(self.pieces(tokens))

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Target token ids as subwords, without special symbols."""
        return [self.symbols[token] for token in tokens if token not in self.special]


def _symbols(file: Path) -> list[str]:
    """The symbols in a vocabulary file. UserError if it is not a list of strings."""
    try:
        symbols: object = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error!r}): export the model again") from error
    if isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols):
        return symbols
    raise UserError(f"{file} is not a list of symbols: export the model again")

"""Links by eflomal (Östling and Tiedemann 2016), where it is installed: pip install eflomal."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from fairseq_nart.tools.alignment.pharaoh import read_pharaoh
from fairseq_nart.tools.alignment.repair import Links
from fairseq_nart.tools.distillation.data import Split


def import_eflomal() -> Any:
    """The package; ValueError saying how to get it."""
    try:
        import eflomal
    except ImportError as error:
        raise ValueError(
            "--eflomal needs eflomal: pip install fairseq-nart[eflomal], or use --teacher"
        ) from error
    return eflomal


class EflomalAligner:
    """Aligns all splits as one corpus: a validation set alone is too small to learn from.

    Each target word gets at most one source word, which is eflomal's forward direction.
    """

    def __init__(self, splits: Sequence[Split]) -> None:
        """ValueError where eflomal is not installed."""
        self.splits = splits
        self.eflomal = import_eflomal()

    def links(self, split: Split) -> Iterator[Links]:
        """The links of one of the splits."""
        before = self.splits[: self.splits.index(split)]
        first, file = sum(len(other.source) for other in before), Path(self._made.name)
        yield from read_pharaoh(file, split, first, last=split is self.splits[-1])

    @functools.cached_property
    def _made(self) -> IO[bytes]:
        """Links of all splits; the file vanishes with this object."""
        file = NamedTemporaryFile(suffix=".eflomal")
        source = self._text([split.source for split in self.splits])
        target = self._text([split.target for split in self.splits])
        self.eflomal.Aligner().align(source, target, links_filename_fwd=file.name, quiet=True)
        return file

    @staticmethod
    def _text(sides: Sequence[Any]) -> Iterator[str]:
        """A line per sentence, without its end. Of ids: eflomal lower-cases words and splits them
        at any white space, which a piece may contain."""
        for side in sides:
            for index in range(len(side)):
                yield " ".join(map(str, side[index].tolist()[:-1]))

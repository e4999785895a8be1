"""Links by eflomal (Östling and Tiedemann 2016), where it is installed: pip install eflomal."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of `split` beside its sentences: all others too."""
        return {"method": "eflomal", "together with": {s.name: s.sha256() for s in self.splits}}

    def links(self, split: Split) -> Iterator[Links]:
        """The links of one of the splits."""
        before = self.splits[: self.splits.index(split)]
        first, file = sum(len(other.source) for other in before), Path(self._folder.name, "links")
        yield from read_pharaoh(file, split, first, last=split is self.splits[-1])

    @functools.cached_property
    def _folder(self) -> TemporaryDirectory[str]:
        """Holds the links of all splits; vanishes with this object."""
        folder = TemporaryDirectory(prefix="eflomal.")
        source = self._text([split.source for split in self.splits])
        target = self._text([split.target for split in self.splits])
        file = str(Path(folder.name, "links"))
        self.eflomal.Aligner().align(source, target, links_filename_fwd=file, quiet=True)
        return folder

    @staticmethod
    def _text(sides: Sequence[Any]) -> Iterator[str]:
        """A line per sentence, without its end. Of ids: eflomal lower-cases words and splits them
        at any white space, which a piece may contain."""
        for side in sides:
            for index in range(len(side)):
                yield " ".join(map(str, side[index].tolist()[:-1]))

"""Links from eflomal (Östling and Tiedemann 2016), an optional package."""

import functools
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairseq_nart.data.splits import Split
from fairseq_nart.errors import UserError
from fairseq_nart.tools.alignment.pharaoh import read_pharaoh
from fairseq_nart.tools.alignment.repair import Links


def import_eflomal() -> Any:
    """The package; UserError with the installation command if it is missing."""
    try:
        import eflomal
    except ImportError as error:
        raise UserError("--eflomal needs eflomal: pip install eflomal, or use --teacher") from error
    return eflomal


class EflomalAligner:
    """Aligns all splits as one corpus, because a validation set alone is too small.

    Each target word gets at most one source word: eflomal's forward direction.
    """

    def __init__(self, splits: Sequence[Split]) -> None:
        """UserError where eflomal is not installed."""
        self.splits = splits
        self.eflomal = import_eflomal()

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of `split`: the sentences of all splits."""
        return {"method": "eflomal", "together with": {s.name: s.sha256() for s in self.splits}}

    def links(self, split: Split) -> Iterator[Links]:
        """Yields the links of one of the splits, CHUNK sentences at a time."""
        before = self.splits[: self.splits.index(split)]
        first, file = sum(len(other.source) for other in before), self._folder / "links"
        yield from read_pharaoh(file, split, first, last=split is self.splits[-1])

    @functools.cached_property
    def _folder(self) -> Path:
        """Holds the links of all splits; deleted with this object."""
        folder = Path(tempfile.mkdtemp(prefix="eflomal."))
        weakref.finalize(self, shutil.rmtree, folder)
        source = self._text([split.source for split in self.splits])
        target = self._text([split.target for split in self.splits])
        file = str(folder / "links")
        self.eflomal.Aligner().align(source, target, links_filename_fwd=file, quiet=True)
        return folder

    @staticmethod
    def _text(sides: Sequence[Any]) -> Iterator[str]:
        """A line of token ids per sentence, without the end of sentence.

        Not the subwords: eflomal lower-cases words and splits them at any white space, which a
        subword may contain.
        """
        for side in sides:
            for index in range(len(side)):
                yield " ".join(map(str, side[index].tolist()[:-1]))

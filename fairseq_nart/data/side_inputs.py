"""Side inputs: training data beside source and target."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fairseq.data import LanguagePairDataset


@dataclass(frozen=True)
class SplitLocation:
    """Locates a split of a binarised data set."""

    folder: Path
    split: str
    languages: tuple[str, str]
    combine: bool
    """Whether train1, train2, ... are shards of train, as in fairseq."""


class SideInput(Protocol):
    """Data that batches hold in `sample["side_inputs"]`, passed by name to `NartModel.forward`."""

    def attach(self, dataset: LanguagePairDataset, where: SplitLocation) -> LanguagePairDataset:
        """The data set with the side input. UserError if it is missing or belongs to other data."""

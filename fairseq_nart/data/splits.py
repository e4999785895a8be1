"""Opens the splits of a binarised data set for tools."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.data import Dictionary

from fairseq_nart.data import sentences
from fairseq_nart.errors import UserError
from fairseq_nart.files import sha256


@dataclass(frozen=True)
class Split:
    """One split of a binarised data set."""

    name: str
    source_file: Path
    """Without .bin and .idx."""
    target_file: Path
    source: Any
    """Indexed token ids; sentences include the EOS."""
    target: Any
    """Likewise; None if the data have no targets."""

    @classmethod
    def open(cls, data: Path, name: str, languages: tuple[str, str]) -> "Split":
        """Opens a split. UserError if a file is missing or the sides are not parallel."""
        files = next(sentences.files_of(data, name, languages), None)
        if files is None:
            lacking = f"{name}.{'-'.join(languages)}.{languages[0]}.bin"
            raise UserError(f"{data} has no split {name!r}: there is no {lacking}")
        sides = [_load(file) for file in files]
        if sides[1] is not None and len(sides[0]) != len(sides[1]):
            raise UserError(
                f"{files[0]} and {files[1].name}: {len(sides[0])} sources but {len(sides[1])} "
                "targets: binarise them again"
            )
        for file in files:  # special symbols have the same numbers in all dictionaries
            if special := sentences.special_symbol(file, Dictionary()):
                raise UserError(
                    f"{special}: spell the word differently and binarise the text again"
                )
        return cls(name, *files, *sides)

    def beyond(self, longest: int) -> list[int]:
        """Indices of the sentences whose source has more than `longest` tokens."""
        indices: list[int] = np.flatnonzero(np.asarray(self.source.sizes) > longest).tolist()
        return indices

    def original(self, index: int, dictionary: Dictionary) -> str:
        """The segmented target of a sentence; empty if the data have no targets."""
        ids = [] if self.target is None else self.target[index].tolist()[:-1]
        return " ".join(dictionary[token] for token in ids)

    def source_sha256(self) -> str:
        """Hexadecimal SHA-256 of the source's token ids."""
        return sha256(Path(f"{self.source_file}.bin"))

    def sha256(self) -> dict[str, str]:
        """Hexadecimal SHA-256 of each side's token ids; OSError if there is no target."""
        target = sha256(Path(f"{self.target_file}.bin"))
        return {"source": self.source_sha256(), "target": target}


def open_splits(data: Path, names: Sequence[str], languages: tuple[str, str]) -> list[Split]:
    """Opens several splits. UserError as for `Split.open`, and if `names` lack a shard of train."""
    for number in itertools.count(1) if "train" in names else ():
        if not list(data.glob(f"train{number}.*.bin")):
            break
        if f"train{number}" not in names:
            raise UserError(
                f"{data} also holds train{number}, which fairseq-train reads as a shard of train: "
                "add it to --splits"
            )
    return [Split.open(data, name, languages) for name in names]


def _load(file: Path) -> Any:
    """The indexed data set, or None if it does not exist."""
    missing = [end for end in (".bin", ".idx") if not Path(f"{file}{end}").exists()]
    if len(missing) == 2:
        return None
    if missing:
        raise UserError(
            f"{file}{missing[0]} is missing, so the data set is incomplete: run fairseq-preprocess "
            "again"
        )
    sentences.require_sentences(file)
    return sentences.open_indexed(file)

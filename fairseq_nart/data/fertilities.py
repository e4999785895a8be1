"""Reads the fertilities of a split and adds them to batches.

Their file, written by `fairseq-nart align`, holds the fertilities of all source tokens, sentence
after sentence, EOS included, as unsigned 16-bit numbers in NumPy's format.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import (
    AppendTokenDataset,
    BaseWrapperDataset,
    ConcatDataset,
    LanguagePairDataset,
)

from fairseq_nart.data.side_inputs import SplitLocation
from fairseq_nart.errors import UserError
from fairseq_nart.files import read_arrays


def fertilities_file(data: Path, split: str, source: str, target: str) -> Path:
    """The path of the fertilities file of a split; source and target are its languages."""
    return data / f"{split}.{source}-{target}.fertilities.npy"


def sentence_starts(sizes: Any) -> np.ndarray:
    """sizes (sentences,) -> (sentences,), the number of tokens before each sentence."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)[:-1]])


def _read(file: Path) -> np.ndarray:
    """The numbers in a file (tokens,), mapped into memory. UserError if it holds anything else."""
    array: np.ndarray = read_arrays(file, mmap_mode="r")
    if array.ndim != 1 or array.dtype.kind not in "ui":
        raise UserError(f"{file} holds {array.dtype} of shape {array.shape}, not fertilities")
    return array


class Fertilities:
    """The side input of a system that learns fertilities."""

    def attach(self, dataset: LanguagePairDataset, where: SplitLocation) -> LanguagePairDataset:
        """The data set with fertilities; UserError if they are missing or do not match."""
        return WithFertilities(dataset, where)


class WithFertilities(BaseWrapperDataset):
    """Adds fertilities to each pair. A batch has them in `sample["side_inputs"]`."""

    def __init__(self, dataset: LanguagePairDataset, where: SplitLocation) -> None:
        """UserError if a file is missing or belongs to other data, or if an option changes the
        lengths of sources."""
        super().__init__(dataset)
        several = isinstance(dataset.src, ConcatDataset)
        source = dataset.src.datasets[0] if several else dataset.src
        cut = isinstance(source, AppendTokenDataset)  # how --truncate-source restores the EOS
        for option, given in (
            ("--num-batch-buckets", dataset.buckets is not None),
            ("--truncate-source", cut),
        ):
            if given:
                raise UserError(f"{option} cannot be used with fertilities: leave it out")
        self.buckets = None
        self.src_sizes, self.tgt_sizes = dataset.src_sizes, dataset.tgt_sizes
        data, split = where.folder, where.split
        file = fertilities_file(data, split, *where.languages)
        align = f"run `fairseq-nart align {data} --splits {split} --teacher CKPT` (or --pharaoh)"
        if not file.exists():
            raise UserError(f"{file} is missing: the fertilities are learned from it; {align}")
        parts = [_read(file)]
        more = (fertilities_file(data, f"{split}{k}", *where.languages) for k in itertools.count(1))
        if where.combine:
            parts += map(_read, itertools.takewhile(Path.exists, more))
        if several:  # --upsample-primary repeats the first shard
            parts = [x for x, n in zip(parts, dataset.src.sample_ratios) for _ in range(n)]
        self.fertilities = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self.starts = sentence_starts(self.src_sizes)
        if len(self.fertilities) != (tokens := int(self.src_sizes.sum())):
            raise UserError(
                f"{file} holds the fertilities of {len(self.fertilities)} source tokens, but the "
                f"data have {tokens}: {align} again"
            )
        sums = np.add.reduceat(self.fertilities, self.starts, dtype=np.int64)
        if len(wrong := np.flatnonzero(sums != self.tgt_sizes)):
            first = wrong[0]
            raise UserError(
                f"{file}: the fertilities of {len(wrong)} sentences do not sum to their target's "
                f"length; the first is sentence {first}, counted from 0, with {sums[first]} "
                f"instead of {self.tgt_sizes[first]}: {align} again"
            )

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = self.starts[index]
        own = self.fertilities[start : start + self.src_sizes[index]]
        return {**self.dataset[index], "fertilities": torch.from_numpy(own.astype(np.int64))}

    def collater(self, samples: list[dict[str, Any]], **kwargs: Any) -> dict[str, Any]:
        """Adds fertilities (B,S), aligned with the source tokens, to fairseq's batch."""
        batch: dict[str, Any] = self.dataset.collater(samples, **kwargs)
        if not samples:
            return batch
        source = batch["net_input"]["src_tokens"]
        by_id = {sample["id"]: sample["fertilities"] for sample in samples}
        fertilities = torch.zeros_like(source)
        real = source.ne(self.dataset.src_dict.pad())
        fertilities[real] = torch.cat([by_id[i] for i in batch["id"].tolist()])
        return {**batch, "side_inputs": {"fertilities": fertilities}}

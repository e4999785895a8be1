"""Fertilities of the sentences of a split: the file beside the data, and their way into batches.

The file holds those of all source tokens, one sentence after the other, each with its end:
unsigned 16-bit numbers in NumPy's format. `fairseq-nart align` writes it.
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


def file_of(data: Path, split: str, source: str, target: str) -> Path:
    """Where the fertilities of `source` tokens of a split stand."""
    return data / f"{split}.{source}-{target}.fertilities.npy"


def starts_of(sizes: Any) -> np.ndarray:
    """sizes (sentences,) -> (sentences,) number of tokens before each sentence."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)[:-1]])


class WithFertilities(BaseWrapperDataset):
    """Each pair with its fertilities; a batch has them as `sample["side_inputs"]`."""

    def __init__(
        self,
        dataset: LanguagePairDataset,
        data: Path,
        split: str,
        languages: tuple[str, str],
        combine: bool,
    ) -> None:
        """With `combine` those of train1, train2, ... come after those of train, as in the data.

        ValueError where a file is missing or belongs to other data, or an option changes the
        lengths of sources.
        """
        super().__init__(dataset)
        several = isinstance(dataset.src, ConcatDataset)
        source = dataset.src.datasets[0] if several else dataset.src
        cut = isinstance(source, AppendTokenDataset)  # with the end of sentence that it lost
        for option, given in (
            ("--num-batch-buckets", dataset.buckets is not None),
            ("--truncate-source", cut),
        ):
            if given:
                raise ValueError(f"{option} cannot be used with fertilities: leave it out")
        self.buckets = None
        self.src_sizes, self.tgt_sizes = dataset.src_sizes, dataset.tgt_sizes
        file = file_of(data, split, *languages)
        align = f"run `fairseq-nart align {data} --splits {split} --teacher CKPT` (or --pharaoh)"
        if not file.exists():
            raise ValueError(f"{file} is missing: the fertilities are learned from it; {align}")
        parts = [np.load(file, mmap_mode="r")]
        more = (file_of(data, f"{split}{k}", *languages) for k in itertools.count(1))
        if combine:
            parts += [np.load(f, mmap_mode="r") for f in itertools.takewhile(Path.exists, more)]
        if several:  # --upsample-primary repeats the first
            parts = [x for x, n in zip(parts, dataset.src.sample_ratios) for _ in range(n)]
        self.fertilities = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self.starts = starts_of(self.src_sizes)
        if len(self.fertilities) != (tokens := int(self.src_sizes.sum())):
            raise ValueError(
                f"{file} holds the fertilities of {len(self.fertilities)} source tokens, and the "
                f"data have {tokens}: {align} again"
            )
        sums = np.add.reduceat(self.fertilities, self.starts, dtype=np.int64)
        if len(wrong := np.flatnonzero(sums != self.tgt_sizes)):
            first = wrong[0]
            raise ValueError(
                f"{file}: the fertilities of {len(wrong)} sentences do not sum to their target's "
                f"length, first those of sentence {first}, counted from 0, with {sums[first]} "
                f"instead of {self.tgt_sizes[first]}: {align} again"
            )

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = self.starts[index]
        found = self.fertilities[start : start + self.src_sizes[index]]
        return {**self.dataset[index], "fertilities": torch.from_numpy(found.astype(np.int64))}

    def collater(self, samples: list[dict[str, Any]], **kwargs: Any) -> dict[str, Any]:
        """As fairseq's, and fertilities (B,S) that stand where the source's real tokens do."""
        batch = self.dataset.collater(samples, **kwargs)
        if not samples:
            return batch
        source = batch["net_input"]["src_tokens"]
        of_sentence = {sample["id"]: sample["fertilities"] for sample in samples}
        fertilities = torch.zeros_like(source)
        real = source.ne(self.dataset.src_dict.pad())
        fertilities[real] = torch.cat([of_sentence[i] for i in batch["id"].tolist()])
        return {**batch, "side_inputs": {"fertilities": fertilities}}

"""What binarised sentences must not be: none at all, or with special symbols among their words.

A word of the text that is spelled like a special symbol of fairseq's dictionaries, such as <pad>,
has the symbol's number in binarised data. A model would take it for padding or for the end.
"""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, Dictionary, indexed_dataset

logger = logging.getLogger(__name__)


def files_of(
    data: Path, split: str, languages: tuple[str, str], combine: bool = False
) -> Iterator[tuple[Path, Path]]:
    """The source and the target file of a split, without their endings, where there is a source.

    With `combine` also those of train1, train2, ..., which fairseq reads as parts of train.
    """
    source, target = languages
    for number in itertools.count() if combine else (0,):
        name = f"{split}{number or ''}"
        prefixes = [f"{name}.{source}-{target}", f"{name}.{target}-{source}"]
        files = ((data / f"{prefix}.{source}", data / f"{prefix}.{target}") for prefix in prefixes)
        existing = next((pair for pair in files if _with(pair[0], ".bin").exists()), None)
        if existing is None:
            return
        yield existing


def require_sentences(file: Path) -> None:
    """ValueError where `file`, without its endings, exists and holds no sentence."""
    binary = _with(file, ".bin")
    if binary.exists() and not binary.stat().st_size:
        raise ValueError(
            f"{binary} is empty: its text has no lines. Give a text with sentences and run "
            "fairseq-preprocess again"
        )


def special_symbol(file: Path, dictionary: Dictionary) -> str | None:
    """Names the first line of `file`, without its endings, with a special symbol; None without."""
    if not _with(file, ".bin").exists():
        return None
    kind = indexed_dataset.infer_dataset_impl(str(file))
    kind = "lazy" if kind == "cached" else kind  # which would need prefetching
    data = indexed_dataset.make_dataset(str(file), kind, True, dictionary)
    first = _first_in_mmap if isinstance(data, indexed_dataset.MMapIndexedDataset) else _first
    found = first(data, dictionary)
    if found is None:
        return None
    line, token = found
    return f"{file}, line {line + 1}: the word {dictionary[token]} is a special symbol of fairseq's"


def _first(data: Any, dictionary: Dictionary) -> tuple[int, int] | None:
    """The first sentence with a special symbol, counted from 0, and the symbol."""
    for index in range(len(data)):
        ids = data[index].long()
        if (special := _is_special(ids, dictionary)).any():
            return index, int(ids[special][0])
    return None


def _first_in_mmap(data: Any, dictionary: Dictionary) -> tuple[int, int] | None:
    """The same, of all sentences at once: of 100 million tokens in less than a second."""
    ids = np.frombuffer(data._bin_buffer, dtype=data._index.dtype)
    special = (ids == dictionary.pad()) | (ids == dictionary.bos())
    ends = np.cumsum(data.sizes, dtype=np.int64)
    inside = ids == dictionary.eos()
    inside[ends - 1] = False
    found = np.flatnonzero(special | inside)
    if not len(found):
        return None
    return int(np.searchsorted(ends, found[0], side="right")), int(ids[found[0]])


def _is_special(ids: torch.Tensor, dictionary: Dictionary) -> torch.Tensor:
    """ids (L,) of a sentence with its end -> (L,) bool."""
    special = ids.eq(dictionary.pad()) | ids.eq(dictionary.bos()) | ids.eq(dictionary.eos())
    special[-1] = False
    return special


def without_special(ids: torch.Tensor, dictionary: Dictionary) -> torch.Tensor:
    """ids (L,) of a source with its end -> (L,), special symbols as the unknown word."""
    return ids.masked_fill(_is_special(ids, dictionary), dictionary.unk())


class WithoutSpecial(BaseWrapperDataset):
    """Sources whose special symbols are unknown words."""

    def __init__(self, dataset: Any, dictionary: Dictionary) -> None:
        super().__init__(dataset)
        self.dictionary = dictionary

    def __getitem__(self, index: int) -> torch.Tensor:
        return without_special(self.dataset[index], self.dictionary)


def _with(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)

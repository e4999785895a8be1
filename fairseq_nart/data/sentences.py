"""Checks binarised data for empty files and for special symbols inside sentences.

A word spelled like a special symbol of fairseq's dictionaries, such as <pad>, gets the symbol's
number in binarised data. A model would read it as padding or as the EOS.
"""

import itertools
import logging
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import (
    BaseWrapperDataset,
    Dictionary,
    LanguagePairDataset,
    indexed_dataset,
)

from fairseq_nart.data.side_inputs import SplitLocation
from fairseq_nart.errors import UserError

logger = logging.getLogger(__name__)


def files_of(
    data: Path, split: str, languages: tuple[str, str], combine: bool = False
) -> Iterator[tuple[Path, Path]]:
    """Yields the source and target file of a split, without extensions, if the source exists.

    With `combine` also those of train1, train2, ..., which fairseq reads as shards of train.
    """
    source, target = languages
    for number in itertools.count() if combine else (0,):
        name = f"{split}{number or ''}"
        prefixes = [f"{name}.{source}-{target}", f"{name}.{target}-{source}"]
        files = ((data / f"{prefix}.{source}", data / f"{prefix}.{target}") for prefix in prefixes)
        existing = next((pair for pair in files if Path(f"{pair[0]}.bin").exists()), None)
        if existing is None:
            return
        yield existing


def require_sentences(file: Path) -> None:
    """UserError if `file`, given without extension, exists and holds no sentence."""
    binary = Path(f"{file}.bin")
    if binary.exists() and not binary.stat().st_size:
        raise UserError(
            f"{binary} is empty, because its text has no lines: give a text with sentences and run "
            "fairseq-preprocess again"
        )


def open_indexed(file: Path, dictionary: Dictionary | None = None) -> Any:
    """fairseq's indexed data set in `file`, given without extension. UserError if it is damaged."""
    kind = indexed_dataset.infer_dataset_impl(str(file))
    kind = "lazy" if kind == "cached" else kind  # "cached" would need prefetching
    try:
        if kind is not None:
            return indexed_dataset.make_dataset(str(file), kind, True, dictionary)
        fault = "no format of fairseq"
    except (AssertionError, KeyError, ValueError, struct.error) as error:
        fault = str(error) or type(error).__name__
    raise UserError(
        f"{file}.idx is damaged or no index of data ({fault}): copy the data again, or "
        "run fairseq-preprocess again"
    )


def special_symbol(file: Path, dictionary: Dictionary) -> str | None:
    """Names the first line with a special symbol in `file`, given without extension, or None."""
    if not Path(f"{file}.bin").exists():
        return None
    data = open_indexed(file, dictionary)
    first = _first_in_mmap if isinstance(data, indexed_dataset.MMapIndexedDataset) else _first
    place = first(data, dictionary)
    if place is None:
        return None
    line, token = place
    return f"{file}, line {line + 1}: the word {dictionary[token]} is a special symbol of fairseq"


def _first(data: Any, dictionary: Dictionary) -> tuple[int, int] | None:
    """The index of the first sentence with a special symbol, from 0, and the symbol."""
    for index in range(len(data)):
        ids = data[index].long()
        if (special := _is_special(ids, dictionary)).any():
            return index, int(ids[special][0])
    return None


def _first_in_mmap(data: Any, dictionary: Dictionary) -> tuple[int, int] | None:
    """Like `_first`, but vectorised over the file mapped into memory."""
    ids = np.frombuffer(data._bin_buffer, dtype=data._index.dtype)
    special = (ids == dictionary.pad()) | (ids == dictionary.bos())
    ends = np.cumsum(data.sizes, dtype=np.int64)
    inside = ids == dictionary.eos()
    inside[ends - 1] = False
    places = np.flatnonzero(special | inside)
    if not len(places):
        return None
    return int(np.searchsorted(ends, places[0], side="right")), int(ids[places[0]])


def _is_special(ids: torch.Tensor, dictionary: Dictionary) -> torch.Tensor:
    """ids (L,) of a sentence with its EOS -> (L,) bool, True on special symbols inside it."""
    special = ids.eq(dictionary.pad()) | ids.eq(dictionary.bos()) | ids.eq(dictionary.eos())
    special[-1] = False
    return special


def check(where: SplitLocation, dictionaries: Sequence[Dictionary]) -> str | None:
    """Names the first line of a split with a special symbol, or None. UserError for an empty file.

    `dictionaries` are those of source and target.
    """
    for files in files_of(where.folder, where.split, where.languages, where.combine):
        for file, dictionary in zip(files, dictionaries):
            require_sentences(file)
            if special := special_symbol(file, dictionary):
                return special
    return None


def without_special(ids: torch.Tensor, dictionary: Dictionary) -> torch.Tensor:
    """ids (L,) of a source with its EOS -> (L,), special symbols replaced by the unknown word."""
    return ids.masked_fill(_is_special(ids, dictionary), dictionary.unk())


def readable(ids: torch.Tensor, dictionary: Dictionary, most: int, line: int) -> torch.Tensor:
    """ids (L,) of a source with its EOS -> at most `most` tokens, without special symbols.

    A warning gives the number of the `line` if it is cut.
    """
    if len(ids) > most:
        logger.warning(
            "line %d has %d tokens: only the first %d are translated (--max-source-positions)",
            line,
            len(ids),
            most,
        )
        ids = torch.cat([ids[: most - 1], ids[-1:]])
    return without_special(ids, dictionary)


class Readable(BaseWrapperDataset):
    """The sources of a split after `readable`."""

    def __init__(self, dataset: Any, dictionary: Dictionary, most: int) -> None:
        super().__init__(dataset)
        self.dictionary = dictionary
        self.most = most

    def __getitem__(self, index: int) -> torch.Tensor:
        return readable(self.dataset[index], self.dictionary, self.most, index + 1)


def make_readable(data: LanguagePairDataset, most: tuple[int, int]) -> None:
    """Makes all sources of `data` `readable`, and lets a reference have any length.

    `most` tokens of a source and a target are allowed: fairseq refuses data with a longer one.
    """
    data.src = Readable(data.src, data.src_dict, most[0])
    data.src_sizes = data.sizes = np.minimum(data.src_sizes, most[0])
    if data.tgt_sizes is not None:
        data.tgt_sizes = np.minimum(data.tgt_sizes, most[1])
        data.sizes = np.vstack((data.src_sizes, data.tgt_sizes)).T

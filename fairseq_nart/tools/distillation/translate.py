"""Translates one shard of a split, with a progress bar and a record of the time."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fairseq_nart.data.splits import Split
from fairseq_nart.files import read_json, write_json
from fairseq_nart.tools.distillation.backends import Backend
from fairseq_nart.tools.distillation.shards import Shard


def batches_by_tokens(
    indices: Iterable[int], sizes: np.ndarray, max_tokens: int
) -> Iterator[list[int]]:
    """Batches of at most `max_tokens` source tokens, or of one sentence.

    All sources of a batch have the same length. There is no padding, so a translation depends
    neither on its batch nor on the number of shards. The longest come first, so that a batch too
    large for the memory fails at once.
    """
    order = sorted(indices, key=lambda index: (-sizes[index], index))
    for length, group in itertools.groupby(order, key=lambda index: int(sizes[index])):
        same, most = list(group), max(1, max_tokens // length)
        yield from (same[start : start + most] for start in range(0, len(same), most))


Translate = Callable[[Split, list[list[int]]], Iterable[tuple[list[int], list[str]]]]
"""Gives each batch of sentences of a split with its translations, in any order."""


def in_process(backend: Backend) -> Translate:
    """Translates in this process."""

    def translate(split: Split, batches: list[list[int]]) -> Iterable[tuple[list[int], list[str]]]:
        sources = (torch.stack([split.source[i] for i in batch]).long() for batch in batches)
        return zip(batches, backend.translate(sources), strict=True)

    return translate


def translate_shard(
    split: Split,
    shard: Shard,
    backend: Backend,
    translate: Translate,
    max_tokens: int,
    record: Path,
    kept: Mapping[int, str],
) -> None:
    """Appends the missing translations to `shard`; `record` gets how they are made and the time.

    `translate` makes them with `backend`, in this process or others. An empty source has an empty
    translation; sentences of `kept` have the text given there.
    """
    sizes = np.asarray(split.source.sizes)
    clock = _Clock(record, backend)
    with shard.appending() as append:
        missing = shard.missing()
        ready = {index: "" for index in missing if sizes[index] < 2}
        ready |= {index: kept[index] for index in missing if index in kept}
        append(ready)
        batches = list(batches_by_tokens((i for i in missing if i not in ready), sizes, max_tokens))
        total, left = (sum(sizes[i] for i in x) for x in (shard.indices, itertools.chain(*batches)))
        with tqdm(
            desc=f"distilling {split.name}",
            unit=" source tokens",
            unit_scale=True,
            total=int(total),
            initial=int(total - left),
        ) as bar:
            for batch, texts in translate(split, batches) if batches else ():
                append(dict(zip(batch, texts, strict=True)))
                clock.record()
                bar.update(int(sizes[batch].sum()))


class _Clock:
    """Saves how a shard is translated, and its seconds over all calls, in a file."""

    def __init__(self, file: Path, backend: Backend) -> None:
        self.file = file
        self.before = (read_json(file) or {"seconds": 0.0})["seconds"]
        self.start = time.monotonic()
        self.how = {
            "backend": backend.name,
            "version": backend.version,
            "device": backend.device,
            "compute_type": backend.compute_type,
        }

    def record(self) -> None:
        seconds = self.before + time.monotonic() - self.start
        write_json(self.file, {**self.how, "seconds": round(seconds, 2)})

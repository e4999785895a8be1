"""Translating one shard of a split: batches, progress, time."""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fairseq_nart.files import read_json, write_json
from fairseq_nart.tools.distillation.backends import Backend
from fairseq_nart.tools.distillation.data import Split
from fairseq_nart.tools.distillation.parts import Part


def batches_by_tokens(
    indices: Iterable[int], sizes: np.ndarray, max_tokens: int
) -> Iterator[list[int]]:
    """Batches of at most `max_tokens` source tokens, or of one sentence.

    All sources of a batch have one length, so nothing is padded: a translation depends neither on
    its batch nor on the number of shards. The longest come first: too large a batch shows at once.
    """
    order = sorted(indices, key=lambda index: (-sizes[index], index))
    for length, group in itertools.groupby(order, key=lambda index: int(sizes[index])):
        same, most = list(group), max(1, max_tokens // length)
        yield from (same[start : start + most] for start in range(0, len(same), most))


def translate_part(
    split: Split,
    part: Part,
    backend: Backend,
    max_tokens: int,
    record: Path,
    kept: Mapping[int, str],
) -> None:
    """Appends the translations that `part` lacks; `record` says how they were made, and the time.

    A blank source, which is nothing but its end, has a blank translation, and those of `kept` have
    what stands there.
    """
    sizes = np.asarray(split.source.sizes)
    clock = _Clock(record, backend)
    with part.appending() as append:
        missing = part.missing()
        ready = {index: "" for index in missing if sizes[index] < 2}
        ready |= {index: kept[index] for index in missing if index in kept}
        append(ready)
        batches = list(batches_by_tokens((i for i in missing if i not in ready), sizes, max_tokens))
        sources = (torch.stack([split.source[i] for i in batch]).long() for batch in batches)
        total, left = (sum(sizes[i] for i in x) for x in (part.indices, itertools.chain(*batches)))
        with tqdm(
            desc=f"distilling {split.name}",
            unit=" source tokens",
            unit_scale=True,
            total=int(total),
            initial=int(total - left),
        ) as bar:
            for batch, texts in zip(batches, backend.translate(sources), strict=True):
                append(dict(zip(batch, texts, strict=True)))
                clock.record()
                bar.update(int(sizes[batch].sum()))


class _Clock:
    """Keeps how a shard is translated, and its seconds over all calls, in a file."""

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

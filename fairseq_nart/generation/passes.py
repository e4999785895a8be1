"""Splits batches into passes of bounded memory.

Each system gives the number of elements of its largest tensor (`NartModel.sentence_elements` and
`row_elements`). A few tensors of that size exist at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ELEMENTS_PER_PASS = {"cpu": 2**23, "accelerator": 2**28}
"""Most elements of a tensor if the work can be split: 32 MiB of fp32 on a CPU, where 1 GiB took 1.6
times as long, and 1 GiB on a GPU (not measured there)."""

MOST_ELEMENTS = 2**29
"""Most elements of a tensor of a single row, which cannot be split: 2 GiB of fp32."""


def elements_per_pass(device: torch.device) -> int:
    """The value of `ELEMENTS_PER_PASS` for a device."""
    return ELEMENTS_PER_PASS["cpu" if device.type == "cpu" else "accelerator"]


def gibibytes(elements: int) -> str:
    """The size of `elements` fp32 numbers, formatted for a message."""
    return f"{elements / 2**28:,.1f} GiB"


def runs(sizes: Sequence[int], elements: Callable[[int], int], most: int) -> Iterator[slice]:
    """Splits a list of items into slices, each with at most `most` elements in its largest tensor.

    `sizes` are the widths of the items, and `elements` gives the elements of one item of a given
    width. The items of a slice are padded to the widest. An item that is too large gets its own
    slice.
    """
    start = widest = 0
    for place, size in enumerate(sizes):
        wider = max(widest, size)
        if place > start and (place - start + 1) * elements(wider) > most:
            yield slice(start, place)
            start, wider = place, size
        widest = wider
    yield slice(start, len(sizes))


def plan(
    lengths: list[list[int]],
    valid: list[list[bool]],
    elements: Callable[[int], int],
    most: int,
) -> Iterator[tuple[slice, list[list[int]]]]:
    """Yields groups of consecutive sentences and, for each pass, the columns of `lengths` (B,N).

    Several sentences are decoded in one pass over all columns. A sentence whose candidates do not
    fit into one pass gets several, over its own valid columns. The longest candidates come first,
    so that the others fit into the memory they free; growing lengths would fragment the heap.
    `elements` gives the elements of one row of a given length.
    """
    columns = [column for column, rows in enumerate(zip(*valid, strict=True)) if any(rows)]
    longest = [max(n for n, real in zip(*row, strict=True) if real) for row in zip(lengths, valid)]
    for part in runs(longest, lambda width: len(columns) * elements(width), most):
        first = part.start
        if part.stop - first > 1 or len(columns) * elements(longest[first]) <= most:
            yield part, [columns]
            continue
        row = lengths[first]
        own = [column for column in columns if valid[first][column]]
        own.sort(key=row.__getitem__, reverse=True)
        sizes = [row[column] for column in own]
        yield part, [own[some] for some in runs(sizes, elements, most)]

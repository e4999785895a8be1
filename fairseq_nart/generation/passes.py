"""Which sentences and candidates are computed together, so that memory is bounded.

Systems count their own elements, those of the largest tensor (`NartModel.sentence_elements` and
`row_elements`). A few tensors of that size exist at a time.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

ELEMENTS_PER_PASS = {"cpu": 2**23, "accelerator": 2**28}
"""Most elements of a tensor where work can be split: 32 MiB of fp32 on a CPU, where 1 GiB took 1.6
times as long, and 1 GiB on a GPU (not measured there)."""

MOST_ELEMENTS = 2**29
"""Most elements of a tensor where it cannot, because it belongs to one row: 2 GiB of fp32."""


def elements_per_pass(device: torch.device) -> int:
    """`ELEMENTS_PER_PASS` of a device."""
    return ELEMENTS_PER_PASS["cpu" if device.type == "cpu" else "accelerator"]


def gibibytes(elements: int) -> str:
    """The size of so many fp32 numbers, as a message gives it."""
    return f"{elements / 2**28:.3g} GiB"


def runs(sizes: Sequence[int], elements: Callable[[int], int], most: int) -> Iterator[slice]:
    """Slices of a list of items; a tensor of all items of a slice has at most `most` elements.

    `sizes` are the widths of the items, `elements` counts those of one item of a given width, and
    every item of a slice is as wide as the widest. An item that is too large has its own slice.
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
    """Consecutive sentences and, for each pass over them, the columns of `lengths` (B,N).

    Several sentences are one pass of all columns. A sentence whose candidates do not fit into one
    pass has several, of its own valid columns, the shortest candidates first. `elements` counts
    those of a row of a given length.
    """
    columns = [column for column, rows in enumerate(zip(*valid, strict=True)) if any(rows)]
    longest = [max(n for n, real in zip(*row, strict=True) if real) for row in zip(lengths, valid)]
    for part in runs(longest, lambda width: len(columns) * elements(width), most):
        first = part.start
        if part.stop - first > 1 or len(columns) * elements(longest[first]) <= most:
            yield part, [columns]
            continue
        own = sorted((c for c in columns if valid[first][c]), key=lengths[first].__getitem__)
        sizes = [lengths[first][column] for column in own]
        yield part, [own[some] for some in runs(sizes, elements, most)]

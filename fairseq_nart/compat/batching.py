"""Keep the last batch of a data set.

``data_utils.batch_by_size`` drops the last batch when its size is no multiple of
``required_batch_size_multiple`` (8 in training, validation and generation), and fails on an
empty set. Of 60 test sentences 56 were scored.
"""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fairseq_nart.compat._patch import wrap


def keep_last_batch() -> None:
    """Mend ``batch_by_size``; every caller reaches it through its module."""
    wrap(importlib.import_module("fairseq.data.data_utils"), "batch_by_size", _batch_by_size)


def _batch_by_size(
    original: Callable[..., Any],
    indices: Iterable[int],
    num_tokens_fn: Callable[[int], int],
    num_tokens_vec: Any = None,
    max_tokens: int | None = None,
    max_sentences: int | None = None,
    required_batch_size_multiple: int = 1,
    fixed_shapes: Any = None,
) -> Any:
    order = indices if isinstance(indices, np.ndarray) else np.fromiter(indices, dtype=np.int64)
    if fixed_shapes is None and len(order) == 0:
        return []
    batches = original(
        order,
        num_tokens_fn,
        num_tokens_vec,
        max_tokens,
        max_sentences,
        required_batch_size_multiple,
        fixed_shapes,
    )
    if fixed_shapes is not None:
        return batches
    # Batches are consecutive pieces of the order, so what is missing is its end. That end was
    # a batch of its own, made within the limits, before it was dropped.
    dropped = order[sum(map(len, batches)) :]
    return [*batches, dropped] if len(dropped) else batches

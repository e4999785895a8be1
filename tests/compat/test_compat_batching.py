"""Batching loses no sentence of a data set."""

import importlib
from typing import Any

import numpy as np
import pytest

LIMITS: list[tuple[int | None, int | None]] = [(None, None), (40, None), (17, None), (None, 4)]
LIMITS += [(None, 8), (None, 12), (30, 5), (100, 1)]


@pytest.mark.parametrize("multiple", [1, 2, 3, 8])
@pytest.mark.parametrize(("max_tokens", "max_sentences"), LIMITS)
@pytest.mark.parametrize("vector", [True, False])
def test_batches_contain_every_index(
    multiple: int, max_tokens: int | None, max_sentences: int | None, vector: bool
) -> None:
    data_utils: Any = importlib.import_module("fairseq.data.data_utils")
    random = np.random.RandomState(1)
    for size in range(18):
        lengths = random.randint(1, 16, size=size)
        order = np.argsort(lengths, kind="stable").astype(np.int64)
        batches = data_utils.batch_by_size(
            order,
            lambda index, lengths=lengths: int(lengths[index]),
            num_tokens_vec=lengths[order].astype(np.int64) if vector else None,
            max_tokens=max_tokens,
            max_sentences=max_sentences,
            required_batch_size_multiple=multiple,
        )
        assert [index for batch in batches for index in batch] == order.tolist()
        for batch in batches:
            assert len(batch) > 0
            assert max_sentences is None or len(batch) <= max_sentences
            assert max_tokens is None or len(batch) * lengths[batch].max() <= max_tokens


def test_order_can_be_an_iterator_and_long_sentences_are_refused() -> None:
    data_utils: Any = importlib.import_module("fairseq.data.data_utils")
    batches = data_utils.batch_by_size(
        iter(range(9)), lambda _: 3, max_sentences=8, required_batch_size_multiple=8
    )
    assert [list(batch) for batch in batches] == [list(range(8)), [8]]
    with pytest.raises(AssertionError, match="max_tokens"):
        data_utils.batch_by_size([0], lambda _: 50, max_tokens=10)

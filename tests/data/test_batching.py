"""Training batches by target length."""

import numpy as np
import pytest
import toys
from fairseq.data import data_utils

from fairseq_nart.data.batching import ByTargetLength


@pytest.fixture
def dataset(tmp_path):
    toys.write_text(tmp_path, {"train": 300, "valid": 5})
    task = toys.load_task(toys.binarise(tmp_path, tmp_path / "bin", "--joined-dictionary"))
    task.load_dataset("train")
    task.load_dataset("valid")
    return task


def test_only_training_is_ordered_by_target_length(dataset):
    train = dataset.dataset("train")
    assert isinstance(train, ByTargetLength)
    assert not isinstance(dataset.dataset("valid"), ByTargetLength)
    with data_utils.numpy_seed(1):
        order = train.ordered_indices()
    assert sorted(order) == list(range(300))
    source, target = train.src_sizes[order], train.tgt_sizes[order]
    assert (np.diff(target) >= 0).all()
    for length in np.unique(target):
        steps = np.diff(source[target == length].astype(int))
        assert (steps >= 0).all() if length % 2 == 0 else (steps <= 0).all()


def test_equal_lengths_are_shuffled(dataset):
    orders = []
    for seed in (1, 2):
        with data_utils.numpy_seed(seed):
            orders.append(dataset.dataset("train").ordered_indices())
    assert not np.array_equal(*orders)

"""Batches of a distillation, and files of translations."""

import itertools

import numpy as np
import pytest

from fairseq_nart.tools.distillation.shards import Shard, gather
from fairseq_nart.tools.distillation.translate import batches_by_tokens


def test_batches_hold_sources_of_one_length():
    sizes = np.random.default_rng(0).integers(1, 9, 100)
    batches = list(batches_by_tokens(range(100), sizes, 20))
    assert sorted(itertools.chain(*batches)) == list(range(100))
    assert all(len({sizes[i] for i in batch}) == 1 for batch in batches)
    assert all(sizes[batch].sum() <= 20 for batch in batches)
    assert list(batches_by_tokens([3, 5], sizes, 1)) in ([[3], [5]], [[5], [3]])


def test_shard_errors_name_the_line(tmp_path):
    shard = Shard(tmp_path, "train", 9, 1, 2)
    with shard.appending() as append:
        append({1: "a\x85b", 7: ""})
        with pytest.raises(ValueError, match="another process is writing"), shard.appending():
            pass
    assert shard.read() == {1: "a\x85b", 7: ""} and shard.missing() == [3, 5]
    other = Shard(tmp_path, "train", 9, 0, 2)
    with other.appending() as append:
        append(dict.fromkeys(other.indices, "b"))
    with pytest.raises(ValueError, match="2 of 9 sentences are missing: 3, 5"):
        gather([other, shard])
    for line, message in (
        ("2\tx\n", "line 3 is not"),
        ("x\n", "line 3 is not"),
        ("1\tx\n", "line 3 translates sentence 1 again"),
    ):
        shard.file.write_text(f"1\ta\n7\t\n{line}", "utf-8")
        with pytest.raises(ValueError, match=message):
            shard.read()

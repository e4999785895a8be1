"""Statistics of several workers, in checkpoints and in every precision."""

import pytest
import torch
from torch import distributed, multiprocessing

from fairseq_nart.errors import UserError
from fairseq_nart.latent.statistics import Usage
from fairseq_nart.latent.vector_quantizer import IDLE, VectorQuantizer

BATCHES = IDLE + 2  # code vectors are revived meanwhile


def quantizer_in(dtype):
    torch.manual_seed(3)
    quantizer = VectorQuantizer(4, 3, 1, 0, 0.99)
    quantizer.sums[0, 6:] = 1e3
    quantizer.idle.zero_()
    return quantizer.to(dtype).train()


def batch(step, rows):
    torch.manual_seed(step)
    return torch.randn(6, 2, 4).bfloat16()[rows], torch.ones(6, 2, dtype=torch.bool)[rows]


def work(rank, file, folder):
    """One of two workers, with its half of every batch and its own random numbers."""
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    quantizer = quantizer_in(torch.bfloat16)
    for step in range(BATCHES):
        if step == IDLE - 1:
            torch.save(quantizer.state_dict(), f"{folder}/before.{rank}.pt")
        z, mask = batch(step, slice(3 * rank, 3 * rank + 3))
        torch.manual_seed(100 * rank + step)
        quantizer(z, mask)
    torch.save(quantizer.state_dict(), f"{folder}/after.{rank}.pt")
    distributed.destroy_process_group()


def test_two_workers_have_the_statistics_of_one(tmp_path):
    """In bf16, as of one in fp32 with the joint batches; and equal vectors are revived in both."""
    multiprocessing.spawn(work, (tmp_path / "rendezvous", tmp_path), nprocs=2)
    alone = quantizer_in(torch.float32)
    for step in range(IDLE - 1):
        z, mask = batch(step, slice(None))
        alone(z.float(), mask)
    for when in ("before", "after"):
        one, two = (
            torch.load(tmp_path / f"{when}.{rank}.pt", weights_only=True) for rank in (0, 1)
        )
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert one["sums"].dtype == torch.float32
        if when == "before":
            for name, expected in alone.state_dict().items():
                torch.testing.assert_close(one[name], expected, msg=name)
            assert one["sums"].abs().max() > 100
    assert one["sums"].abs().max() < 100  # the two far vectors are replaced


def test_missing_statistics_are_refused():
    quantizer = quantizer_in(torch.float32)
    for name in ("counts", "sums", "usage.counts"):
        state = quantizer.state_dict()
        del state[name]
        with pytest.raises(UserError, match=f"the checkpoint lacks {name}, statistics of the"):
            quantizer_in(torch.float32).load_state_dict(state)


def test_usage_forgets():
    usage, mask = Usage(4, decay=0.5), torch.ones(1, 2, dtype=torch.bool)
    usage.update(torch.tensor([[[0], [0]]]), mask)
    for _ in range(30):
        usage.update(torch.tensor([[[1], [2]]]), mask)
    assert usage.perplexity().item() == pytest.approx(2.0, abs=1e-3)

"""Two processes have the gradients and statistics of one process on the joint batch."""

import contextlib
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from fairseq.models.distributed_fairseq_model import DistributedFairseqModel
from torch import distributed, multiprocessing
from toys import build, build_teacher, load_task, phrase_table

from fairseq_nart.criterions.nart import NartCriterion
from fairseq_nart.latent.vector_quantizer import VectorQuantizer
from fairseq_nart.models._registry import SYSTEMS, decoding_kinds
from fairseq_nart.teacher.rescoring import TeacherRescorer

GLANCING = ("--glancing", "--glancing-ratio", "0.5,0.5")
DVQ = ("--quantizer", "dvq", "--compression", "2")
CASES = [
    ("nart", *GLANCING),
    ("nart", "--length-predictor", "ratio"),
    ("nart_crf",),
    ("nart_dcrf",),
    ("nart_ctc", *GLANCING),
    ("nart_ctc", "--ctc-loss", "nmla"),
    ("nart_dag", *GLANCING),
    ("nart_dag", "--output", "dcrf"),
    ("nart_fertility",),
    ("nart_fertility", "--finetune"),
    ("nart_refinement",),
    ("nart_cmlm",),
    ("nart_enat_p",),
    ("nart_enat_e",),
    ("nart_reg",),
    ("nart_latent",),
    ("nart_latent", *DVQ),
    ("nart_vqvae", "--latent-bits", "5"),
]
"""All systems with options for their different loss terms."""

HALF = 4
"""Sentences of each process."""


@contextlib.contextmanager
def random_rows(rows):
    """Random numbers of the joint batch, of which this process gets its `rows`."""
    count = rows.stop - rows.start
    rand, randint = torch.rand, torch.randint

    def shared(original, shape, **keywords):
        shape = tuple(shape)
        if not shape:
            return original(shape, **keywords)
        each, rest = divmod(shape[0], count)
        assert not rest, "the first dimension is the batch"
        joint = original((2 * HALF * each, *shape[1:]), **keywords)
        return joint[rows.start * each : rows.stop * each]

    def fake_rand(*shape, **keywords):
        shape = shape[0] if shape and not isinstance(shape[0], int) else shape
        return shared(rand, shape, **keywords)

    def fake_randint(*bounds, **keywords):
        *bounds, shape = bounds
        return shared(lambda x, **others: randint(*bounds, x, **others), shape, **keywords)

    def fake_multinomial(shares, number):
        assert number == 1
        place = fake_rand(len(shares), 1) * shares.sum(dim=1, keepdim=True)
        return torch.searchsorted(shares.cumsum(dim=1), place.to(shares))

    def fake_poisson(mean, generator=None):
        return (mean + fake_rand(mean.shape, generator=generator)).floor()

    fakes = {"rand": fake_rand, "randint": fake_randint}
    with mock.patch.multiple(torch, **fakes, multinomial=fake_multinomial, poisson=fake_poisson):
        yield


def model_of(task, name, *words):
    finetune, words = "--finetune" in words, [word for word in words if word != "--finetune"]
    model = build(task, f"{name}_tiny", "--max-update", "2000", *words, seed=3)
    if finetune:
        teacher = build_teacher(task, "transformer").double()
        model.teacher = TeacherRescorer(teacher, task.tgt_dict.eos(), "mean", 0.0)
    for module in model.modules():
        if isinstance(module, VectorQuantizer):
            module.idle.zero_()  # code vectors in use are not replaced
    model.double().train()
    model.set_num_updates(1000)
    return model


def batch_of(task, rows):
    """The first sentences, all padded as in the joint batch, with any valid fertilities."""
    task.load_dataset("valid")
    data = task.dataset("valid")
    batch = data.collater([data[i] for i in range(2 * HALF)])
    source, target = batch["net_input"]["src_tokens"], batch["target"]
    pad = task.tgt_dict.pad()
    lengths, width = target.ne(pad).sum(dim=1), source.ne(pad).sum(dim=1)
    real = source.ne(pad)
    place = real.cumsum(dim=1) - 1
    share, rest = lengths // width, lengths % width
    fertilities = (share[:, None] + (place < rest[:, None])).masked_fill(~real, 0)
    tokens = int(target[rows].ne(pad).sum())
    return {
        "id": batch["id"][rows],
        "net_input": {"src_tokens": source[rows]},
        "target": target[rows],
        "ntokens": tokens,
        "fertilities": {"side_inputs": {"fertilities": fertilities[rows]}},
    }


def step(task, case, rows, wrap=lambda model: model):
    """Gradients, summed over the rows, and buffers after one training step."""
    model = model_of(task, *case)
    batch = batch_of(task, rows)
    side = batch.pop("fertilities")
    if case[0] == "nart_fertility":
        batch |= side
    torch.manual_seed(5)
    wrapped = wrap(model)  # which must exist until the backward pass ends
    with random_rows(rows):
        loss, _, _ = NartCriterion(task)(wrapped, batch)
        loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return gradients, dict(model.named_buffers())


def work(rank, file, data):
    """One of two processes, wrapped as fairseq wraps models."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    task = load_task(data)
    options = SimpleNamespace(
        tpu=False,
        ddp_backend="pytorch_ddp",
        device_id=0,
        broadcast_buffers=False,
        bucket_cap_mb=25,
        find_unused_parameters=False,
        gradient_as_bucket_view=False,
        ddp_comm_hook="none",
        heartbeat_timeout=-1,
    )

    def wrap(model):
        return DistributedFairseqModel(options, model, None, torch.device("cpu"))

    for number, case in enumerate(CASES):
        found = step(task, case, slice(rank * HALF, (rank + 1) * HALF), wrap)
        torch.save(found, f"{file}.{number}.{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(data, tmp_path_factory):
    file = tmp_path_factory.mktemp("processes") / "rendezvous"
    phrase_table(load_task(data))  # otherwise both would write it at the same time
    multiprocessing.spawn(work, (file, data), nprocs=2)
    return file


def test_all_systems_are_compared():
    ours = {x for x in decoding_kinds() if SYSTEMS[x].model.startswith("nart")}
    assert {case[0] for case in CASES} >= ours - {"nart_bag"}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(case) for case in CASES])
def test_two_processes_have_the_gradients_of_one(number, processes, task):
    """DDP divides by the number of processes, which fairseq's trainer then multiplies by."""
    expected, buffers = step(task, CASES[number], slice(0, 2 * HALF))
    size = max(gradient.norm() for gradient in expected.values())
    assert size > 0
    worst = 0.0
    for rank in range(2):
        found, theirs = torch.load(f"{processes}.{number}.{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            error = float((2 * found[name] - gradient).norm() / size)
            # A gradient that is zero but for rounding is compared with the largest one.
            small = float(gradient.norm() / size) < 1e-9
            assert small or error <= 1e-6 * float(gradient.norm() / size), (name, error)
            worst = max(worst, error)
        for name, buffer in buffers.items():
            torch.testing.assert_close(theirs[name], buffer, rtol=1e-6, atol=1e-7, msg=name)
    print(f"{' '.join(CASES[number])}: relative difference at most {worst:.1e}")

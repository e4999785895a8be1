"""A sentence has one translation: in any batch, order, number of threads and program.

The only exceptions are ties: two hypotheses whose scores differ by less than 1e-5.
"""

import contextlib
import io
import math
import random
import re
from pathlib import Path

import pytest
import torch
from exported import export_model
from toys import (
    SMALL,
    arguments,
    build,
    fairseq_generate,
    fairseq_interactive,
    fairseq_train,
)

from fairseq_nart import hub, runtime
from fairseq_nart.models._registry import SYSTEMS, decoding_kinds

TIE = 1e-5
BATCH = 7
CANDIDATES = {
    "nart_ctc": {"ctc_beam": 3},
    "nart_dag": {"dag_paths": 3},
    "nart_fertility": {"fertility_samples": 3},
    "nart_latent": {"latent_samples": 3},
    "nart_vqvae": {"latent_samples": 3},
}
"""Options with several candidates; other systems have `length_candidates`."""

ARCHS = sorted(x for x in decoding_kinds() if SYSTEMS[x].model != "nart_bag")


class Matrix:
    """One system with random weights, and the translations of all programs."""

    def __init__(self, task, name, folder):
        self.data = Path(task.cfg.data)
        torch.manual_seed(1)
        self.file, self.lines = folder / "model.pt", folder / "lines"
        words = (f"{name}_tiny", "--max-update", "2000")
        model = build(task, *words, seed=1)
        save(task, model, arguments(task, *words), self.file)
        task.load_dataset("test")
        test = task.dataset("test")
        self.sources = [task.src_dict.string(test[i]["source"]) for i in range(len(test))]
        self.lines.write_text("".join(f"{line}\n" for line in self.sources), "utf-8")
        self.options = CANDIDATES.get(name, {"length_candidates": 3})
        self.words = [
            x for o, v in self.options.items() for x in (f"--{o.replace('_', '-')}", str(v))
        ]
        self.folder = export_model(folder / "exported", task, model)
        self.api = hub.from_pretrained(self.file, self.data, **self.options)

    def cells(self):
        """Each way to translate: its name, and (text, score) of each sentence."""
        for size in (1, BATCH):
            yield f"API, batch {size}", self.by_api(size)
            yield f"generate, batch {size}", self.by_generate(size)
            yield f"interactive, batch {size}", self.by_interactive(size)
        yield "API, shuffled", self.by_api(BATCH, shuffle=True)
        torch.set_num_threads(2)
        yield "API, 2 threads", self.by_api(BATCH)
        yield "generate, 2 threads", self.by_generate(BATCH)
        torch.set_num_threads(1)
        for threads in (1, 2):
            model = runtime.load(self.folder, threads=threads, **self.options)
            for size in (1, BATCH):
                yield f"exported, batch {size}, threads {threads}", self.by_api(size, model)
        yield "exported, shuffled", self.by_api(BATCH, model, shuffle=True)

    def by_api(self, size, model=None, shuffle=False):
        order = list(range(len(self.sources)))
        if shuffle:
            random.Random(1).shuffle(order)
        lines = [self.sources[i] for i in order]
        found = (model or self.api).translate_n_best(lines, batch_size=size)
        best = {i: (one[0].text, one[0].score) for i, one in zip(order, found, strict=True)}
        return [best[i] for i in range(len(order))]

    def by_generate(self, size):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            fairseq_generate(self.data, self.file, "--batch-size", str(size), *self.words)
        return best_of(printed.getvalue(), len(self.sources))

    def by_interactive(self, size):
        words = ["--batch-size", str(size), "--buffer-size", str(size), *self.words]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            fairseq_interactive(self.data, self.file, self.lines, *words)
        return best_of(printed.getvalue(), len(self.sources))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save(task, model, options, file):
    """A checkpoint as fairseq writes one, without training."""
    state = {
        "args": options,
        "model": model.state_dict(),
        "task_state": task.state_dict(),
        "optimizer_history": [
            {"criterion_name": "nart", "optimizer_name": "adam", "lr_scheduler_state": {}}
        ],
        "extra_state": {"train_iterator": {"epoch": 1}},
    }
    torch.save(state, file)


def best_of(printed, count):
    """(text, score) of each sentence in what fairseq's programs print."""
    found = re.findall(r"^H-(\d+)\t(\S+)\t(.*)$", printed, re.MULTILINE)
    best = {int(number): (text, float(score) * math.log(2)) for number, score, text in found}
    assert len(found) == len(best) == count
    return [best[number] for number in range(count)]


def differing(one, other):
    """The tokens that differ between two texts."""
    ours, theirs = one.split(), other.split()
    return sum(x != y for x, y in zip(ours, theirs)) + abs(len(ours) - len(theirs))


def compare(task, name, folder):
    """The tokens that differ from those of single sentences, apart from ties, and the ties."""
    matrix = Matrix(task, name, folder)
    expected, tokens, ties, cells = matrix.by_api(1), 0, [], 0
    assert sum(len(text.split()) for text, _ in expected) > 20
    for cell, found in matrix.cells():
        cells += 1
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            assert other[1] == pytest.approx(one[1], abs=1e-3), (name, cell, number)
            if one[0] != other[0] and abs(one[1] - other[1]) < TIE:
                ties.append(f"{name}, {cell}, sentence {number}: {one} and {other}")
            else:
                tokens += differing(one[0], other[0])
    return cells, tokens, ties


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=() if x == "nart_dcrf" else pytest.mark.long) for x in ARCHS]
)
def test_translations_do_not_depend_on_the_program(name, task, tmp_path, capsys):
    cells, tokens, ties = compare(task, name, tmp_path)
    with capsys.disabled():
        for line in (f"{name}: {cells} ways to translate, {tokens} tokens differ", *ties):
            print(f"\n{line}", end="")
    assert (cells, tokens) == (14, 0)


@pytest.mark.parametrize("arch", ["nart_dcrf_tiny", "nart_vqvae_tiny"])
def test_training_repeats_bit_for_bit(arch, data, tmp_path):
    """With dropout, shuffled batches and random code vectors; another seed gives another model."""
    words = ["--arch", arch, *SMALL, "--dropout", "0.2", "--max-update", "4", "--lr", "1e-2"]
    words += ["--disable-validation", "--no-epoch-checkpoints"]
    models = [
        torch.load(
            fairseq_train(data, tmp_path / str(number), *words, "--seed", seed), weights_only=True
        )["model"]
        for number, seed in enumerate(("1", "1", "2"))
    ]
    same = [all(torch.equal(x, other[n]) for n, x in models[0].items()) for other in models[1:]]
    assert same == [True, False]

"""Teachers, data and finished distillations."""

from types import SimpleNamespace

import pytest
from toys import binarise, fairseq_train, write_text

from fairseq_nart.cli import main

COUNT = 31
"""Sentences of `small`."""


def train_teacher(data, folder, arch, encoder_layers, updates):
    """A teacher, trained until most of its translations end with EOS."""
    words = ["--arch", arch, "--max-update", updates, "--lr", "1e-2", "--dropout", "0"]
    words += ["--warmup-updates", "20", "--label-smoothing", "0", "--disable-validation"]
    words += ["--encoder-layers", encoder_layers, "--decoder-layers", "1"]
    for side in ("encoder", "decoder"):
        words += [f"--{side}-embed-dim", "48", f"--{side}-ffn-embed-dim", "96"]
    return fairseq_train(data, folder, *words)


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    return train_teacher(data, tmp_path_factory.mktemp("able"), "nart_teacher_tiny", "1", "120")


@pytest.fixture(scope="module")
def deep(data, tmp_path_factory):
    return train_teacher(
        data, tmp_path_factory.mktemp("deep"), "nart_teacher_deep_tiny", "2", "160"
    )


@pytest.fixture(scope="module")
def small(data, tmp_path_factory):
    """A few sentences over the teacher's dictionary, one of them blank, one with unknown words."""
    text = tmp_path_factory.mktemp("small_text")
    write_text(text, {"train": COUNT, "valid": 5}, seed=4)
    sources = (text / "train.de").read_text("utf-8").splitlines()
    sources[7], sources[11] = "", "heute xyzzy muss der mann ☃ ."
    (text / "train.de").write_text("".join(f"{line}\n" for line in sources), "utf-8")
    words = ["--srcdict", str(data / "dict.de.txt"), "--joined-dictionary"]
    return binarise(text, tmp_path_factory.mktemp("small") / "bin", *words)


@pytest.fixture
def run(small, teacher, tmp_path, capsys):
    """Runs the command; returns its exit status and output."""

    def command(*words, data=small, path=teacher, out=tmp_path / "out", backend="fairseq"):
        line = ["distill", str(data), "--path", str(path), "--out", str(out), "--beam", "2"]
        status = main([*line, "--backend", backend, *words])
        printed = capsys.readouterr()
        return SimpleNamespace(status=status, out=printed.out, err=printed.err, folder=out)

    return command


@pytest.fixture(scope="module")
def whole(small, teacher, tmp_path_factory):
    """A finished distillation by fairseq, without interruption."""
    out = tmp_path_factory.mktemp("whole") / "out"
    words = ["--path", str(teacher), "--out", str(out), "--beam", "2", "--backend", "fairseq"]
    assert main(["distill", str(small), *words]) == 0
    return out

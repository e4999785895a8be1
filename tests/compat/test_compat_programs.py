"""fairseq's own commands, run with the fixes on tiny synthetic data."""

import importlib
import os
import random
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch

import fairseq_nart

SCRIPTS = Path(sysconfig.get_path("scripts"))
SENTENCES = 11  # not a multiple of 8
MODEL = [
    *("--arch", "transformer", "--encoder-layers", "1", "--decoder-layers", "1"),
    *("--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "8", "--encoder-attention-heads", "1"),
    *("--decoder-embed-dim", "8", "--decoder-ffn-embed-dim", "8", "--decoder-attention-heads", "1"),
    *("--optimizer", "adam", "--lr", "0.001", "--max-tokens", "100", "--num-workers", "0"),
    *("--no-progress-bar", "--log-format", "simple", "--bf16", "--cpu"),
]


def _run(folder: Path, *command: str, stdin: bytes = b"") -> tuple[str, str]:
    """Run a command in ``folder``; its output, and its stderr without logged lines."""
    root = str(Path(fairseq_nart.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "PATH": os.pathsep.join([str(SCRIPTS), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
        "PYTHONIOENCODING": "utf-8:strict",  # as in most locales; in others bytes pass through
    }
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        environment.pop(name, None)
    done = subprocess.run(
        [str(SCRIPTS / command[0]), *command[1:]],
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
    )
    output, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, errors[-3000:]
    return output, "\n".join(line for line in errors.splitlines() if not line.startswith("INFO:"))


def _write_data(folder: Path) -> None:
    """Writes the same as fairseq-preprocess, which would take seconds to start."""
    data: Any = importlib.import_module("fairseq.data")
    dictionary = data.Dictionary()
    words = [dictionary.add_symbol(word) for word in ("ein", "mann", "geht", "haus", "der")]
    generator = random.Random(1)
    for language in ("de", "en"):
        dictionary.save(str(folder / f"dict.{language}.txt"))
    for split, size in (("train", 40), ("valid", SENTENCES), ("test", SENTENCES)):
        for language in ("de", "en"):
            prefix = str(folder / f"{split}.de-en.{language}")
            builder = data.indexed_dataset.make_builder(f"{prefix}.bin", "mmap")
            for _ in range(size):
                sentence = [*generator.choices(words, k=5), dictionary.eos()]
                builder.add_item(torch.tensor(sentence))
            builder.finalize(f"{prefix}.idx")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with data, a user directory and a checkpoint; what training printed."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "fixed").mkdir()
    user_dir = "from fairseq_nart.compat import apply\n\napply()\n"
    (folder / "fixed" / "__init__.py").write_text(user_dir)
    (folder / "bin").mkdir()
    _write_data(folder / "bin")
    training = (
        "--user-dir",
        "fixed",
        "--save-dir",
        "saved",
        "--max-epoch",
        "1",
        "--no-epoch-checkpoints",
    )
    return folder, *_run(folder, "fairseq-train", "bin", *MODEL, *training)


def test_bf16_training_on_the_cpu_prints_no_warnings(trained: tuple[Path, str, str]) -> None:
    _, output, errors = trained
    assert "done training" in output
    assert "'tpu': False" in output
    assert errors == ""


def test_every_test_sentence_is_generated(trained: tuple[Path, str, str]) -> None:
    command = ("fairseq-generate", "bin", "--user-dir", "fixed", "--cpu", "--beam", "1")
    output, errors = _run(trained[0], *command, "--path", "saved/checkpoint_best.pt")
    ids = {int(line.split("\t")[0][2:]) for line in output.splitlines() if line.startswith("H-")}
    assert ids == set(range(SENTENCES))
    assert "fairseq_cli.generate | {" in output  # its settings
    assert errors == ""


def test_interactive_translates_every_line(trained: tuple[Path, str, str]) -> None:
    command = ("fairseq-interactive", "bin", "--user-dir", "fixed", "--cpu", "--beam", "1")
    text = b"ein mann\n\n   \nhaus \xff\xfe hund\nder"
    output, errors = _run(trained[0], *command, "--path", "saved/checkpoint_last.pt", stdin=text)
    translations = [line.split("\t")[0] for line in output.splitlines() if line.startswith("H-")]
    assert translations == [f"H-{line}" for line in range(5)]
    assert "standard input, line 4 is not UTF-8" in errors and len(errors.splitlines()) == 1


def test_two_processes_resume_a_training(trained: tuple[Path, str, str]) -> None:
    torchrun = ("torchrun", "--nproc_per_node", "2", "--no-python", "fairseq-train", "bin")
    training = (
        "--user-dir",
        "fixed",
        "--save-dir",
        "saved",
        "--max-epoch",
        "2",
        "--no-epoch-checkpoints",
    )
    output, errors = _run(trained[0], *torchrun, *MODEL, *training)
    assert "training on 2 devices" in output
    assert output.count("Loaded checkpoint") == 1  # the second process logs warnings only
    assert output.count("Saved checkpoint") == 1
    assert "Warning" not in errors

"""From raw text to a model that is used on another machine."""

import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import grammar
import pytest
from toys import SMALL

from fairseq_nart import hub, runtime
from fairseq_nart.cli import main

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
SIZES = {"train": 300, "valid": 20, "test": 12}


def run_command(folder, *words, stdin=""):
    """Runs a command or a Python script in `folder`; returns its output."""
    is_command = str(words[0]).startswith("fairseq-")
    command = [SCRIPTS / words[0], *words[1:]] if is_command else [sys.executable, *words]
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A folder with a checkpoint, its dictionaries and its sentencepiece model, nothing else."""
    raw, work = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("work")
    pairs = grammar.corpus(1)
    for split, size in SIZES.items():
        part = list(itertools.islice(pairs, size))
        for language, lines in (("de", [p.source for p in part]), ("en", [p.shown for p in part])):
            (raw / f"{split}.{language}").write_text("".join(f"{x}\n" for x in lines), "utf-8")
    splits = ("--languages", "de", "en", "--splits", *SIZES, "--pieces", "90")
    run_command(work, ROOT / "examples" / "segment.py", raw, work / "text", *splits)
    prefixes = [word for split in SIZES for word in (f"--{split}pref", work / "text" / split)]
    run_command(
        *(work, "fairseq-preprocess", "-s", "de", "-t", "en", "--joined-dictionary"),
        *("--destdir", work / "data", *prefixes),
    )
    run_command(
        *(work, "fairseq-train", work / "data", "--user-dir", ROOT / "fairseq_nart", *SMALL),
        *("--arch", "nart_dcrf_tiny", "--max-tokens", "400", "--max-update", "3", "--eval-bleu"),
        *("--save-dir", work / "save", "--num-workers", "0"),
    )
    folder = tmp_path_factory.mktemp("deployed")
    shutil.copy(work / "save" / "checkpoint_best.pt", folder / "model.pt")
    for file in (*(work / "data").glob("dict.*.txt"), work / "text" / "spm.model"):
        shutil.copy(file, folder)
    lines = (work / "text" / "test.raw.de").read_text("utf-8").splitlines()
    for gone in (raw, work):  # which the other machine does not have
        shutil.rmtree(gone)
    return folder, lines


def test_model_works_on_another_machine(deployed, tmp_path, monkeypatch):
    folder, lines = deployed
    text = "".join(f"{line}\n" for line in lines)
    given = ("--path", folder / "model.pt", "--data", folder)
    given += ("--sentencepiece", folder / "spm.model")
    translated = run_command(tmp_path, "fairseq-nart", "translate", *given, stdin=text).splitlines()
    assert len(translated) == len(lines) and any(translated)
    interactive = run_command(
        *(tmp_path, "fairseq-interactive", folder, "--user-dir", ROOT / "fairseq_nart"),
        *("--path", folder / "model.pt", "--bpe", "sentencepiece"),
        *("--sentencepiece-model", folder / "spm.model"),
        stdin=text,
    )
    outputs = [x.split("\t")[2] for x in interactive.splitlines() if x.startswith("D-")]
    assert outputs == translated
    # In this process, because another one would import torch again.
    monkeypatch.chdir(tmp_path)
    model = hub.from_pretrained(folder / "model.pt", folder, folder / "spm.model")
    assert model.translate(lines) == translated
    assert main(["inspect", lines[0], *map(str, given), "--out", "sentence.png"]) == 0
    assert Path("sentence.png").exists()
    words = map(str, ("export", folder / "model.pt", *given[2:], "--precision", "float32"))
    assert main([*words, "--out", "exported"]) == 0
    exported = shutil.move("exported", tmp_path / "moved")
    (tmp_path / "empty").mkdir()
    command = ("fairseq-nart", "translate", "--model", exported)
    assert run_command(tmp_path / "empty", *command, stdin=text).splitlines() == translated
    assert runtime.load("moved").translate(lines) == translated

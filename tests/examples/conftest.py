"""Runs recipes without their hours: their programs are replaced by ones that take notes."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import EXAMPLES, NOTE, RECIPES, SETTINGS, raw_text
from texts import segment


@pytest.fixture(autouse=True)
def as_on_a_fresh_machine(monkeypatch):
    """Without what whoever runs the tests has set for a run of their own."""
    for name in SETTINGS.split():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def play(tmp_path):
    """Runs a recipe, or steps of it, with stand-ins, from a folder that holds `text`.

    Returns its exit status and the commands it gave; the files `printed` and `said` hold its stdout
    and stderr.
    """
    (tmp_path / "text").mkdir()
    stands = tmp_path / "bin"
    stands.mkdir()
    for name in ("preprocess", "train", "generate"):
        (stands / f"fairseq-{name}").write_text(NOTE.format(python=sys.executable))
    for name in ("fairseq-nart", "sacrebleu", "sacremoses"):
        (stands / name).write_text(NOTE.format(python=sys.executable))
    for file in stands.iterdir():
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    notes = tmp_path / "notes"

    def run(words: str, **variables: str) -> tuple[int, list[list[str]]]:
        notes.write_text("")
        path = f"{stands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": path,
            "NOTES": str(notes),
            "NART_RUNS": str(tmp_path / "runs"),
            "GPUS": "0",
            **variables,
        }
        with open(tmp_path / "printed", "w") as printed, open(tmp_path / "said", "w") as said:
            done = subprocess.run(
                [EXAMPLES / "run.sh", *words.split()],
                env=environment,
                cwd=tmp_path,
                stdout=printed,
                stderr=said,
            )
        return done.returncode, [shlex.split(line) for line in notes.read_text().splitlines()]

    return run


@pytest.fixture
def variables(tmp_path, request):
    """Of one recipe: where its text is, cut beforehand into fewer pieces than the recipe's."""
    recipe = request.param
    given = raw_text(tmp_path / "raw", recipe)
    run = tmp_path / "runs" / recipe
    done = run / "done"
    done.mkdir(parents=True)
    words = ["--pieces", "90", "--splits", *RECIPES[recipe][1], "--languages", *RECIPES[recipe][2]]
    assert segment(tmp_path / "raw", run / "text", *words).returncode == 0
    (done / "segment").touch()
    return recipe, given

"""Runs recipes quickly: stand-ins for their programs only log the command line."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import EXAMPLES, RECIPES, SETTINGS, STAND_IN, write_raw_text
from texts import segment


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """Removes variables of recipes that are set where the tests run."""
    for name in SETTINGS.split():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run_recipe(tmp_path):
    """Runs a recipe, or steps of it, with stand-ins, from a folder that holds `text`.

    Returns its exit status and the commands it ran. Its output is in the files `stdout` and
    `stderr`.
    """
    (tmp_path / "text").mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("preprocess", "train", "generate"):
        (programs / f"fairseq-{name}").write_text(STAND_IN.format(python=sys.executable))
    for name in ("fairseq-nart", "sacrebleu", "sacremoses"):
        (programs / name).write_text(STAND_IN.format(python=sys.executable))
    for file in programs.iterdir():
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    log = tmp_path / "commands"

    def run(words: str, **variables: str) -> tuple[int, list[list[str]]]:
        log.write_text("")
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": path,
            "COMMAND_LOG": str(log),
            "NART_RUNS": str(tmp_path / "runs"),
            "GPUS": "0",
            **variables,
        }
        with open(tmp_path / "stdout", "w") as out, open(tmp_path / "stderr", "w") as error:
            done = subprocess.run(
                [EXAMPLES / "run.sh", *words.split()],
                env=environment,
                cwd=tmp_path,
                stdout=out,
                stderr=error,
            )
        return done.returncode, [shlex.split(line) for line in log.read_text().splitlines()]

    return run


@pytest.fixture
def variables(tmp_path, request):
    """Variables of a recipe whose text is already segmented, with a smaller vocabulary."""
    recipe = request.param
    given = write_raw_text(tmp_path / "raw", recipe)
    run = tmp_path / "runs" / recipe
    done = run / "done"
    done.mkdir(parents=True)
    words = ["--pieces", "90", "--splits", *RECIPES[recipe][1], "--languages", *RECIPES[recipe][2]]
    assert segment(tmp_path / "raw", run / "text", *words).returncode == 0
    (done / "segment").touch()
    return recipe, given

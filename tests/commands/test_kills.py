"""Trainings and tools that are killed end with the output of an uninterrupted run.

`tests/killing.py` kills them; here is how often.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLING = Path(__file__).parents[1] / "killing.py"
FEW = {"train": 3, "distill": 2}
MANY = {"train": 24, "train_bf16": 8, "distill": 26, "export": 20, "bench": 4}
MANY |= {"segment": 5, "average": 5, "align": 5}  # the recipes' other steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data, the teacher and the student are made once."""
    return tmp_path_factory.mktemp("kills")


def kill(program, kills, seed, folder):
    command = [sys.executable, KILLING, program, str(kills), str(seed), folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    print(counts)  # pytest -rP shows it
    assert counts["kills"] == kills and counts["outputs"] > 0 == counts["different"]


@pytest.mark.parametrize("program", FEW)
def test_killed_program_ends_with_the_same_output(program, folder):
    kill(program, FEW[program], 1, folder)


@pytest.mark.long
@pytest.mark.parametrize("program", MANY)
def test_program_killed_many_times_ends_with_the_same_output(program, folder, capsys):
    with capsys.disabled():
        kill(program, MANY[program], 2, folder / "many")

"""The load script counts right answers and finds wrong ones."""

import re
import subprocess
import sys
from pathlib import Path

from fake_model import POISON, FakeModel
from served import served

SCRIPT = Path(__file__).parents[2] / "examples/load_test.py"


class Confused(FakeModel):
    """Answers a line with another's translation where there are several."""

    def translate_n_best(self, lines, most=None):
        answers = super().translate_n_best(lines, most)
        return answers if len(lines) < 2 else [*answers[1:], answers[0]]


def load(address, text, *options):
    words = [sys.executable, str(SCRIPT), address, str(text), "--clients", "8", "--seconds", "1"]
    return subprocess.run([*words, *options], capture_output=True, text=True)


def made(tmp_path):
    text = tmp_path / "text"
    text.write_text("".join(f"line {n}\n" for n in range(50)), "utf-8")
    return text


def test_right_answers(tmp_path):
    with served(FakeModel()) as client:
        done = load(client.address, made(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"requests +[1-9]\d+, .*p99 +[\d.]+ ms\nerrors +0\n$", done.stdout, re.S)


def test_wrong_answers(tmp_path):
    with served(Confused()) as client:
        done = load(client.address, made(tmp_path))
    assert done.returncode == 1
    assert re.search(r"errors +[1-9]\d*\n +\d+ times: another answer than alone\n", done.stdout)


def test_refused_requests(tmp_path):
    with served(FakeModel(seconds=0.01), waiting=1) as client:
        done = load(client.address, made(tmp_path))
        assert done.returncode == 1 and "status 503: too many requests wait" in done.stdout
        (tmp_path / "bad").write_text(f"{POISON}\n")
        done = load(client.address, tmp_path / "bad")
    assert (
        done.returncode == 1 and "does not translate (status 400: 'POISON' is bad)" in done.stderr
    )

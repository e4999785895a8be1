"""The load script counts right answers and finds wrong ones."""

import codecs
import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_model import POISON, FakeModel
from served import served

SCRIPT = Path(__file__).parents[2] / "examples/load_test.py"


class Known(FakeModel):
    """Translates known lines alone."""

    def __init__(self, lines):
        super().__init__()
        self.known = lines

    def translate_n_best(self, lines, most=None):
        assert set(lines) <= set(self.known), lines
        return super().translate_n_best(lines, most)


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


@pytest.mark.parametrize(
    "content, options, message",
    [
        (None, [], "No such file"),
        ("a\nß\n".encode("cp1252"), [], "text, line 2 is not UTF-8"),
        (b"a\n", ["--seconds", "0"], "--seconds: invalid duration value: '0'"),
        (b"a\n", ["--seconds", "nan"], "--seconds: invalid duration value: 'nan'"),
        (b"a\n", ["--clients", "0"], "--clients: invalid amount value: '0'"),
        (b"a\n", ["--lines", "0"], "--lines: invalid amount value: '0'"),
        (b"a\n", ["--sentences", "-1"], "--sentences: invalid amount value: '-1'"),
    ],
)
def test_invalid_arguments(content, options, message, tmp_path):
    text = tmp_path / "text"
    if content is not None:
        text.write_bytes(content)
    done = load("http://127.0.0.1:1", text, *options)
    assert done.returncode and message in done.stderr and "Traceback" not in done.stderr


def test_server_of_something_else(tmp_path):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever).start()
        done = load(f"http://127.0.0.1:{other.server_port}", made(tmp_path))
        other.shutdown()
    assert done.returncode == 1
    assert "status 501: not an answer of fairseq-nart serve" in done.stderr


def test_byte_order_mark_is_not_text(tmp_path):
    (tmp_path / "text").write_bytes(codecs.BOM_UTF8 + b"one line\r\n")
    with served(Known(["one line"])) as client:
        assert load(client.address, tmp_path / "text", "--seconds", "0.2").returncode == 0


def test_refused_requests(tmp_path):
    with served(FakeModel(seconds=0.01), waiting=1) as client:
        done = load(client.address, made(tmp_path))
        assert done.returncode == 1 and "status 503: too many requests wait" in done.stdout
        (tmp_path / "bad").write_text(f"{POISON}\n")
        done = load(client.address, tmp_path / "bad")
    assert (
        done.returncode == 1 and "does not translate (status 400: 'POISON' is bad)" in done.stderr
    )

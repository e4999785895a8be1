"""`fairseq-nart translate`: the Python API's translations, a line each, from a file or a pipe."""

import io
import sys

import pytest
from toys import load_task

from fairseq_nart import hub
from fairseq_nart.cli import main


@pytest.fixture(scope="module")
def lines(data):
    """The test set's sources with a blank line and an unknown word."""
    task = load_task(data)
    task.load_dataset("test")
    test = task.dataset("test")
    sources = [task.src_dict.string(test[i]["source"]) for i in range(5)]
    return [*sources[:2], "", *sources[2:], "\N{SNOWMAN}"]


@pytest.fixture
def translate(data, student, capsys):
    """Runs the tool; returns its status, the lines of its output, and stderr."""

    def run(*words):
        capsys.readouterr()
        command = ["translate", "--path", str(student), "--data", str(data), "--device", "cpu"]
        status = main([*command, *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out.split("\n")[:-1], printed.err

    return run


def test_translations_of_a_file_equal_the_api(translate, lines, data, student, teacher, tmp_path):
    file = tmp_path / "text.de"
    file.write_text("\r\n".join(lines), "utf-8")
    expected = hub.from_pretrained(student, data).translate(lines)
    assert translate(file)[:2] == (0, expected)
    words = ["--length-candidates", "5", "--rescore-with", teacher, "--batch-size", "2"]
    several = hub.from_pretrained(student, data, length_candidates=5, rescore_with=str(teacher))
    assert translate(file, *words)[:2] == (0, several.translate(lines)) != (0, expected)


@pytest.mark.parametrize(
    "option, message",
    [
        ("length_candidates", "must be NAME=VALUE"),
        ("length_candidates=--5", "--length-candidates must be of type int, not '--5'"),
        ("length_candidates=²", "--length-candidates must be of type int, not '²'"),
        (f"length_candidates={'1' * 5000}", "--length-candidates must be of type int, not '111"),
        ("length_candidates=nan", "--length-candidates must be of type int, not 'nan'"),
        ("length_candidates=-1", "--length-candidates must be odd and positive"),
        ("rescore=maybe", "rescore must be true or false"),
    ],
)
def test_invalid_options_of_an_exported_model_are_reported(option, message, capsys):
    assert main(["translate", "--option", option]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("fairseq-nart translate: ") and message in error


def test_translations_of_a_pipe_equal_the_api(translate, lines, data, student, monkeypatch):
    """With invalid UTF-8, and with more lines than one chunk."""
    text = "\n".join(lines).encode() + b"\n\xff " + lines[0].encode() + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    monkeypatch.setattr("fairseq_nart.tools._lines.CHUNK", 3)
    expected = [*lines, f"\N{REPLACEMENT CHARACTER} {lines[0]}"]
    assert translate()[:2] == (0, hub.from_pretrained(student, data).translate(expected))


@pytest.mark.parametrize(
    "words, message",
    [
        (["none.de"], "none.de"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--device", "cuda"], "torch sees no GPU"),
        (["--ctc-beam", "4"], "--ctc-beam has no effect on"),
    ],
)
def test_invalid_arguments_are_reported(translate, words, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, printed, error = translate(*words)
    assert status == 1 and not printed
    assert error.startswith("fairseq-nart translate: ") and message in error

"""`fairseq-nart translate`: the Python API's translations, a line each, from a file or a pipe."""

import io
import sys

import pytest
from toys import load_task

from fairseq_nart import hub
from fairseq_nart.cli import main


@pytest.fixture(scope="module")
def lines(data):
    """The test set's sources, among them a blank line and a word that no dictionary holds."""
    task = load_task(data)
    task.load_dataset("test")
    test = task.dataset("test")
    found = [task.src_dict.string(test[i]["source"]) for i in range(5)]
    return [*found[:2], "", *found[2:], "\N{SNOWMAN}"]


@pytest.fixture
def translate(data, student, capsys):
    """Runs the tool; its status, the lines it printed, and what it said."""

    def run(*words):
        capsys.readouterr()
        command = ["translate", "--path", str(student), "--data", str(data), "--device", "cpu"]
        status = main([*command, *map(str, words)])
        said = capsys.readouterr()
        return status, said.out.split("\n")[:-1], said.err

    return run


def test_a_file_gives_what_the_api_gives(translate, lines, data, student, teacher, tmp_path):
    file = tmp_path / "text.de"
    file.write_text("\r\n".join(lines), "utf-8")
    expected = hub.from_pretrained(student, data).translate(lines)
    assert translate(file)[:2] == (0, expected)
    words = ["--length-candidates", "5", "--rescore-with", teacher, "--batch-size", "2"]
    several = hub.from_pretrained(student, data, length_candidates=5, rescore_with=str(teacher))
    assert translate(file, *words)[:2] == (0, several.translate(lines)) != (0, expected)


def test_a_pipe(translate, lines, data, student, monkeypatch):
    """Also of bytes that are no UTF-8, and with more lines than are sorted together."""
    text = "\n".join(lines).encode() + b"\n\xff " + lines[0].encode() + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    monkeypatch.setattr("fairseq_nart.tools.translate.CHUNK", 3)
    asked = [*lines, f"\N{REPLACEMENT CHARACTER} {lines[0]}"]
    assert translate()[:2] == (0, hub.from_pretrained(student, data).translate(asked))


@pytest.mark.parametrize(
    "words, said",
    [
        (["none.de"], "none.de"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--device", "cuda"], "torch sees no GPU"),
        (["--ctc-beam", "4"], "--ctc-beam has no effect on"),
    ],
)
def test_what_cannot_be_is_said(translate, words, said, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, printed, error = translate(*words)
    assert status == 1 and not printed
    assert error.startswith("fairseq-nart translate: ") and said in error


def test_integers_stay_on_the_cpu(translate, data, student, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    status, _, error = translate("--int8", "--device", "cuda")
    assert status == 1 and "--int8 is for a CPU" in error
    translator = hub.from_pretrained(student, data, int8=True)
    with pytest.raises(ValueError, match="int8 is for a CPU"):
        translator.to("cuda")
    assert translator.to("cpu").translate([""]) == [""]

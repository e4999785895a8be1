"""`fairseq-nart export`: a checkpoint becomes a folder that translates as it does."""

import os
import subprocess
import sys

import pytest
from toys import SMALL_TEACHER, TEACHERS, fairseq_train

from fairseq_nart import hub, runtime
from fairseq_nart.cli import main
from fairseq_nart.export import check
from fairseq_nart.runtime.folder import read

LINES = ["heute muss der mann lesen .", "", "\N{SNOWMAN} mann", "der mann"]


@pytest.fixture
def export(data, student, tmp_path, capsys):
    """Runs the tool; returns its status, the lines of its output, and stderr."""

    def run(*words, checkpoint=student, out=tmp_path / "model"):
        capsys.readouterr()
        command = ["export", str(checkpoint), "--data", str(data), "--out", str(out)]
        status = main([*command, *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err

    return run


def test_exported_checkpoint_translates_as_the_api(export, data, student, teacher, tmp_path):
    out = tmp_path / "model"
    words = ["--teacher", teacher, "--precision", "float32", "--length-candidates", "5"]
    status, printed, error = export(*words, "--bleu", "12.5", "--rescore-normalization", "mean")
    size = sum(file.stat().st_size for file in out.iterdir())
    assert (status, printed, error) == (0, [f"exported: {out} ({size / 1e6:.1f} MB)"], "")
    options = {"rescore_with": str(teacher), "rescore_normalization": "mean"}
    plugin = hub.from_pretrained(student, data, length_candidates=5, **options)
    exported = runtime.load(out, threads=1)
    assert exported.translate(LINES) == plugin.translate(LINES)
    found, expected = exported.translate_n_best(LINES), plugin.translate_n_best(LINES)
    for ours, theirs in zip(found, expected, strict=True):
        assert [one.text for one in ours] == [one.text for one in theirs]
        scores = [one.score for one in theirs]
        assert [one.score for one in ours] == pytest.approx(scores, abs=1e-4)
    manifest = read(out)
    assert (manifest.system, manifest.title) == ("nart_dcrf_tiny", "NART-DCRF")
    assert manifest.about["bleu"] == 12.5 and manifest.scorer.normalization == "mean"
    assert "| BLEU | 12.5 |" in (out / "README.md").read_text("utf-8")


def test_int8_is_the_default(export, teacher, tmp_path):
    assert export("--teacher", teacher)[0] == 0
    assert read(tmp_path / "model").precision == "int8"
    assert runtime.load(tmp_path / "model").translate(LINES)[1] == ""


def test_export_twice_is_the_same(export, tmp_path):
    one, other = ({}, {})
    for contents in (one, other):
        assert export("--precision", "float32")[0] == 0
        contents.update({x.name: x.read_bytes() for x in (tmp_path / "model").iterdir()})
    assert one == other and len(one) >= 4


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_wrong_graphs_leave_no_folder(precision, export, monkeypatch, tmp_path):
    """Those of int8 are checked before they are quantized."""
    monkeypatch.setattr(check, "TOLERANCE", -1)
    status, printed, error = export("--precision", precision)
    assert status == 1 and not printed and not list(tmp_path.iterdir())
    assert "do not compute what the model computes" in error and error.count("\n") == 1


def test_interrupted_export_keeps_the_old_folder(export, monkeypatch, tmp_path):
    assert export()[0] == 0
    before = (tmp_path / "model" / "manifest.json").read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "check", interrupt)
    assert export("--length-candidates", "3")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "manifest.json").read_bytes() == before


def test_folder_with_other_files_is_refused(export, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("mine")
    status, _, error = export()
    assert status == 1 and "holds other files" in error and error.count("\n") == 1
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--ctc-beam", "3"], "--ctc-beam has no effect on"),
        (["--length-candidates", "2"], "--length-candidates must be odd"),
        (["--bleu", "nan"], "--bleu must be a finite number at least 0 and at most 100, not nan"),
        (["--bleu", "101"], "--bleu must be at least 0 and at most 100, not 101"),
        (["--crf-candidates", "0"], "--crf-candidates must be 1 to"),
        (["--rescore-alpha", "1"], "--rescore-alpha needs a teacher"),
        (["--teacher", "none.pt"], "none.pt"),
        (["--sentencepiece", "none.model"], "none.model"),
    ],
)
def test_invalid_options_are_reported_in_one_line(words, message, export, tmp_path):
    status, printed, error = export(*words)
    assert status == 1 and not printed and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["lstm", "layernorm"])
def test_teacher_that_cannot_be_exported_is_reported(kind, export, data, tmp_path):
    words = [*TEACHERS.get(kind, ["--arch", "nart_teacher_tiny", *SMALL_TEACHER])]
    words += ["--layernorm-embedding"] if kind == "layernorm" else []
    save = tmp_path / "save"
    path = fairseq_train(data, save, *words, "--max-update", "1", "--disable-validation")
    out = tmp_path / "out" / "model"
    status, _, error = export("--teacher", path, out=out)
    assert status == 1 and f"{path} cannot be exported: it " in error and error.count("\n") == 1
    assert not out.exists()


def test_autoregressive_model_is_reported(export, teacher):
    status, _, error = export(checkpoint=teacher)
    assert status == 1 and "not a non-autoregressive model" in error


def test_number_of_candidates_can_be_lowered(export, tmp_path):
    assert export("--precision", "float32", "--crf-candidates", "4")[0] == 0
    model = runtime.load(tmp_path / "model")
    assert model.manifest.constants["crf_candidates"] == 4
    assert model.lattice(LINES[0]).candidates == 4


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_missing_package_is_reported_in_one_line(missing, data, student, tmp_path):
    code = f"""
import sys
sys.modules[{missing!r}] = None
from fairseq_nart.cli import main
sys.exit(main(sys.argv[1:]))
"""
    words = ["export", student, "--data", data, "--out", tmp_path / "model"]
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{missing} is missing: pip install" in done.stderr
    assert not (tmp_path / "model").exists()

"""`fairseq-nart doctor`: a whole environment, and broken ones."""

import importlib
import sys
from pathlib import Path

import pytest

from fairseq_nart import compat
from fairseq_nart.cli import main
from fairseq_nart.tools.diagnosis import environment, fixes, trials
from fairseq_nart.tools.diagnosis.findings import FAULT, NOTE, OK, Finding
from fairseq_nart.tools.doctor import report

HELPERS = {"__init__", "_patch", "allocator", "named_paths", "safe_types"}
"""Modules of `compat` that change nothing in fairseq by themselves."""


@pytest.fixture
def doctor(monkeypatch, capsys):
    """Runs it without timing threads; returns its exit code, advice, block and error."""
    monkeypatch.setattr(trials, "_seconds", lambda count: 0.1 / count)

    def run():
        status = main(["doctor"])
        printed = capsys.readouterr()
        advice, _, block = printed.out.partition("```text\n")
        assert block.endswith("```\n")
        return status, advice, block.removesuffix("```\n"), printed.err

    return run


def test_whole_environment(doctor):
    status, advice, block, error = doctor()
    assert status == 0 and not error and FAULT not in block and "FAULT" not in advice
    lines = dict(line[7:].partition(": ")[::2] for line in block.splitlines())
    for name in ("fairseq_nart", "python", "torch", "fairseq-fixed", "numpy", "cpu", "threads"):
        assert lines[name]
    assert lines["fixes"] == f"applied and needed: {', '.join(fixes.FIXES)}"
    assert "NART-DCRF on cpu: loss " in lines["forward pass"]
    if "not installed" not in lines["onnxruntime"]:
        assert len(lines["exported model"]) > 3
    assert str(Path.home()) not in block or Path.home() == Path("/")  # no private paths


def test_every_fix_is_checked():
    modules = {file.stem for file in Path(compat.__file__).parent.glob("*.py")}
    assert set(fixes.FIXES) == modules - HELPERS


@pytest.mark.parametrize("name", ["onnxruntime", "onnx", "ctranslate2", "matplotlib", "eflomal"])
def test_missing_optional_part(name, doctor, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    status, advice, block, _ = doctor()
    assert status == 0 and f"note   {name}: not installed\n" in block
    assert f"note   {name}: not installed: pip install {name} gives" in advice
    if name == "onnxruntime":
        assert "note   exported model: not tried\n" in block
        assert "exported models need ONNX Runtime" in advice


@pytest.mark.parametrize(("module", "name"), [("fairseq", "fairseq-fixed"), ("sacrebleu",) * 2])
def test_missing_required_part(module, name, doctor, monkeypatch):
    """The other checks still run."""
    monkeypatch.setitem(sys.modules, module, None)
    status, advice, block, error = doctor()
    assert status == 1 and f"FAULT  {name}: not installed" in block
    assert f"FAULT  {name}: not installed: " in advice and name in error
    assert "exported model: " in block and "threads: " in block


def test_installation_for_exported_models(doctor, monkeypatch):
    """Without torch and fairseq, nothing is wrong. What translates must be there."""
    for name in ("torch", "fairseq", "omegaconf", "hydra", "sacrebleu"):
        monkeypatch.setitem(sys.modules, name, None)
    status, advice, block, error = doctor()
    assert status == 0 and not error and FAULT not in block
    assert "torch: not installed: training with fairseq needs it, exported models do not" in advice
    assert "exported model: " in block and "fixes" not in block
    for name in ("sentencepiece", "onnxruntime"):
        with monkeypatch.context() as one:
            one.setitem(sys.modules, name, None)
            status, _, block, _ = doctor()
        assert status == 1 and f"FAULT  {name}: not installed" in block


def test_broken_part(doctor, monkeypatch):
    load = importlib.import_module

    def broken(name, *rest):
        if name == "ctranslate2":
            raise OSError("libcublas.so.12: cannot open\nshared object file")
        return load(name, *rest)

    monkeypatch.setattr(environment.importlib, "import_module", broken)
    status, _, block, error = doctor()
    assert status == 1 and "ctranslate2" in error
    assert "FAULT  ctranslate2: cannot be imported: libcublas.so.12: cannot open shared" in block


@pytest.mark.parametrize("name", sorted(fixes.FIXES))
def test_fix_that_is_not_applied(name, doctor, monkeypatch):
    """Puts back what fairseq has, and keeps `compat` from changing it again."""
    doctor()
    place = fixes.FIXES[name].place
    module, _, path = place.partition(":")
    *owners, last = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    _, original = fixes._looked_up(place)
    if name == "quiet":
        original = [x for x in owner.filters if not (x[1] and "hydra" in x[1].pattern)]
    monkeypatch.setattr(compat, "apply", lambda: None)
    if name == "literals":
        monkeypatch.delattr(owner, last)
    else:
        kept = vars(owner)[last]
        restored = staticmethod(original) if isinstance(kept, staticmethod) else original
        monkeypatch.setattr(owner, last, restored)
    status, advice, block, error = doctor()
    assert status == 1 and f"fix {name}" in error
    assert f"FAULT  fix {name}: not applied\n" in block
    assert f"without it {fixes.FIXES[name].without}" in advice


def test_fix_that_is_not_needed(doctor, monkeypatch):
    monkeypatch.setitem(
        fixes.FIXES,
        "pieces",
        fixes.Fix(fixes.FIXES["pieces"].place, "", lambda original: False),
    )
    status, _, block, _ = doctor()
    assert status == 0 and "note   fix pieces: applied, but this fairseq does not seem" in block


def test_failed_forward_pass(doctor, monkeypatch):
    def fail():
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(trials, "_tiny_model", fail)
    status, _, block, error = doctor()
    assert status == 1 and "forward pass" in error
    assert "FAULT  forward pass: failed: RuntimeError('illegal instruction')" in block


def test_stall_beside_another_job(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for seconds, state in (((4, 2, 3), OK), ((4, 2, 3.5), NOTE), ((4, 5, 5), NOTE)):
        times = iter(seconds)
        monkeypatch.setattr(trials, "_seconds", lambda count, times=times: next(times))
        finding = list(trials.threads())[-1]
        assert finding.state == state and ("OMP_NUM_THREADS" in finding.advice) == (state == NOTE)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert len(list(trials.threads())) == 1


def test_report_gives_advice_first():
    text = report(
        [Finding(OK, "a", "1"), Finding(FAULT, "b", "bad", "do this"), Finding(NOTE, "c", "2", "x")]
    )
    assert text.splitlines()[:2] == ["FAULT  b: bad: do this", "note   c: 2: x"]
    assert text.split("```text\n")[1] == "ok     a: 1\nFAULT  b: bad\nnote   c: 2\n```"

"""The demo's parts and, with `make test-long`, the demo itself and its results."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grammar
import pytest
import run
import synthetic_run
import torch

from fairseq_nart.runtime import demo_folder
from fairseq_nart.tools.benchmark.plan import read_plan
from fairseq_nart.tools.benchmark.records import Translation, read

ROOT = Path(__file__).parents[2]


def test_importing_the_demo_does_not_load_torch():
    """CTranslate2's processes import it, and their memory is measured."""
    code = f"import runpy, sys; sys.path.insert(0, {str(ROOT / 'examples/demo')!r})\n"
    code += "runpy.run_path(sys.argv[1], run_name='__mp_main__'); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, ROOT / "examples" / "demo" / "run.py"]
    subprocess.run(command, cwd=ROOT, check=True)


def test_judge_computes_percentages():
    pair = grammar.Pair("x", ("a b c d", "b c d a"), "a b c d")
    assert run.judge(["b c d a", "a c d a", "no", "a b c d"], [pair] * 4) == (50, 25)


def test_shares_are_listed_by_system(tmp_path):
    folder = synthetic_run.make_run(tmp_path / "run", sentences=3, systems=["NART, 1 length"])
    references = (folder / "references.0.txt").read_text("utf-8").splitlines()
    (record,) = (r for r in read(folder) if isinstance(r, Translation))
    (folder / record.outputs).write_text(f"{references[0]}\nno\nno\n", "utf-8")
    table = run.shares(folder, [grammar.Pair("x", (line,), line) for line in references])
    assert table.splitlines()[2:] == ["| NART, 1 length | 33.3 | 0.0 |"]


def test_repairs_are_formatted_as_text(tmp_path):
    """Only what NART gets wrong and NART-DCRF right."""
    systems = ["NART, raw text, 1 length", "NART-DCRF, raw text, 1 length"]
    with pytest.MonkeyPatch.context() as patch:
        for name in systems:
            patch.setitem(synthetic_run.SYSTEMS, name, synthetic_run.SYSTEMS["NART, 1 length"])
        folder = synthetic_run.make_run(tmp_path / "run", sentences=3, systems=systems)
    records = {r.system: r for r in read(folder) if isinstance(r, Translation)}
    for name, lines in zip(systems, (["a b", "no", "no"], ["a b", "c d", "x"])):
        (folder / records[name].outputs).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    test = [grammar.Pair(f"s{n}", (line,), line) for n, line in enumerate(("a b", "c d", "e f"))]
    assert run.repairs(folder, test) == "source     s1\nNART       no\nNART-DCRF  c d"


def test_translation_is_shown_with_its_command():
    shown = run.translate("heute muss der mann lesen .", demo_folder())
    command, output = shown.splitlines()
    assert command.startswith('$ echo "heute muss der mann lesen ." | ') and output
    done = subprocess.run(command[2:], shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == output


def test_plan_is_valid(tmp_path):
    for name in ("raw", "text/test.de", "text/test.en", "teacher.pt", "nart.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    file = tmp_path / "plan.toml"
    students = {("dcrf", "raw"): tmp_path / "nart.pt"}
    file.write_text(run.plan(tmp_path, tmp_path / "teacher.pt", students))
    names = [system.name for system in read_plan(file, tmp_path).systems]
    assert names[0] == "Transformer, beam 4"  # the baseline of main
    assert names[-4:] == [
        *("NART-DCRF, raw text, 1 length", "NART-DCRF, raw text, 9 lengths"),
        *("NART-DCRF, raw text, 1 length, ONNX int8", "NART-DCRF, raw text, 9 lengths, ONNX int8"),
    ]


@pytest.mark.parametrize(
    ("flags", "words"), [("avx512_bf16", ["--bf16"]), ("amx_bf16", ["--bf16"]), ("avx2", [])]
)
def test_bf16_is_used_if_the_cpu_supports_it(flags, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(Path, "read_text", lambda *_: f"flags : {flags}\n")
    assert run.precision() == words


def test_finished_step_is_skipped_and_changed_one_runs_again(tmp_path):
    file = tmp_path / "ran"
    code = f"open({str(file)!r}, 'a').write('x')"
    name = Path(sys.executable).name
    for _ in range(2):
        run.Step(tmp_path, "step").command(name, "-c", code)
    assert file.read_text() == "x"
    run.Step(tmp_path, "step").command(name, "-c", code + "  # changed")
    assert file.read_text() == "xx"
    with pytest.raises(SystemExit, match="step failed"):
        run.Step(tmp_path, "step").command(name, "-c", "1 / 0")
    run.Step(tmp_path, "step").command(name, "-c", code)
    assert file.read_text() == "xxx", "a failed step is not done"


def demo(out):
    command = [sys.executable, "examples/demo/run.py", "--out", out]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_second_demo_in_a_folder_is_refused(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    done = demo(tmp_path)
    os.close(folder)
    message = f"another demo is using {tmp_path}: wait until it ends, or give another --out\n"
    assert done.returncode == 1 and done.stderr == message and not list(tmp_path.iterdir())


def test_command_of_a_killed_demo_keeps_the_lock(tmp_path):
    out, started = tmp_path / "out", tmp_path / "started"
    code = f"import pathlib, run, sys; out = pathlib.Path({str(out)!r}); run.claim(out)\n"
    code += "run.Step(out, 'step').command(pathlib.Path(sys.executable).name, '-c', sys.argv[1])"
    waiting = f"import time; open({str(started)!r}, 'w'); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'examples/demo'}"}
    command = [sys.executable, "-c", code, waiting]
    script = subprocess.Popen(command, env=environment, start_new_session=True)
    while not started.exists():
        assert script.poll() is None
        time.sleep(0.05)
    script.kill()
    script.wait()
    (out / "text").mkdir()
    (out / "text" / "train.de").touch()
    try:
        with pytest.raises(SystemExit, match="another demo is using"):
            run.claim(out)
    finally:
        os.killpg(script.pid, signal.SIGKILL)


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(SystemExit, match="holds files that the demo did not write: "):
        run.claim(tmp_path)
    run.write_corpus(tmp_path / "text")
    run.claim(tmp_path)
    run.write_corpus(tmp_path / "text")
    (tmp_path / "text" / "valid.en").write_text("mine\n")
    with pytest.raises(SystemExit, match=r"valid\.en is not the text of this demo: move it"):
        run.write_corpus(tmp_path / "text")
    assert (tmp_path / "text" / "valid.en").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["a,b", "a:b"])
def test_paths_with_separators_are_refused(name, tmp_path):
    with pytest.raises(SystemExit, match="cannot read paths with a colon or comma"):
        run.claim(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_demo_shows_mixtures_and_that_the_crf_reduces_them(tmp_path):
    command = [sys.executable, "examples/demo/run.py", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1800)
    rows = {}
    for line in (tmp_path / "shares.md").read_text().splitlines()[2:]:
        name, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = [float(number) for number in numbers]
    nart, dcrf = (rows[f"{name}, raw text, 1 length"] for name in ("NART", "NART-DCRF"))
    assert nart[1] >= 10, "NART mixes modes on raw text"
    assert dcrf[1] <= nart[1] / 3 and dcrf[0] > nart[0]

"""The demo's judge and table; and, under `make test-long`, the demo itself with its bars."""

import subprocess
import sys
from pathlib import Path

import grammar
import pytest
import run

ROOT = Path(__file__).parents[2]


def test_judge_counts_shares():
    pair = grammar.Pair("x", ("a b c d", "b c d a"), "a b c d")
    figures = run.judge(["b c d a", "a c d a", "no", "a b c d"], [pair] * 4, seconds=2.0)
    assert figures["valid"] == 50 and figures["mixed"] == 25 and figures["ms"] == 500
    assert run.judge(["b c d a"], [pair], 1.0)["bleu"] == pytest.approx(100)
    assert run.table([("NART", figures)]).splitlines()[-1].startswith("| NART | 50.0 | 25.0 |")


def test_a_finished_step_is_kept_and_a_changed_one_runs_again(tmp_path):
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


@pytest.mark.long
def test_the_demo_shows_what_it_says(tmp_path):
    command = [sys.executable, "examples/demo/run.py", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1800)
    rows = {}
    for line in (tmp_path / "table.md").read_text().splitlines()[2:]:
        name, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = [float(number) for number in numbers]
    nart, dcrf = (rows[f"{name}, raw text, 1 length"] for name in ("NART", "NART-DCRF"))
    assert nart[1] >= 10, "NART mixes modes on raw text"
    assert dcrf[1] <= nart[1] / 3 and dcrf[0] > nart[0]

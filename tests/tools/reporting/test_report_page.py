"""The report's errors, and its page in a real browser."""

import dataclasses
import re
import subprocess
import sys

import browser
import pytest
import sacrebleu
import synthetic_run
from synthetic_report import BASELINE, FEW, csv_table, raw, replace, report, texts
from synthetic_run import DATA, TEACHER

from fairseq_nart.tools.benchmark.records import FILE, write
from fairseq_nart.tools.report import NO_MATPLOTLIB
from fairseq_nart.tools.reporting.collection import collect


def test_two_directions_of_translation(small, tmp_path, no_plots, capsys):
    """Systems of one name share a row. On the same data, this is refused."""
    other_data = "Synthetic En-De"
    other = synthetic_run.make_run(
        tmp_path / "other", data=[other_data], sentences=20, systems=FEW, seed=2
    )
    records = (other / FILE).read_text()
    (other / FILE).write_text(records.replace("Transformer000", "Transformer111"))
    assert report(small, other, out=tmp_path / "out") == 0
    rows = csv_table(tmp_path / "out")
    assert list(rows) == list(FEW)
    for run, data in ((small, DATA), (other, other_data)):
        outputs, references = texts(run, TEACHER)
        score = sacrebleu.corpus_bleu(outputs, [references]).score
        assert float(rows[TEACHER][f"{data}: bleu"]) == score
    (other / FILE).write_text((other / FILE).read_text().replace(other_data, DATA))
    assert report(small, other, out=tmp_path / "out") == 1
    assert f"two systems are called '{TEACHER}': checkpoint_sha256" in capsys.readouterr().err


def append(run, name, **changes):
    write(run, dataclasses.replace(synthetic_run.system("NART, 1 length"), name=name, **changes))


def other_machine(run):
    machine = dataclasses.replace(synthetic_run.MACHINE, cpu="Another CPU")
    replace(run, BASELINE, "latency", machine=machine)


def other_references(run):
    (run / "other.txt").write_text("the dog.\n" * 20)
    outputs = ["the dog."] * 20
    write(run, synthetic_run.translation(run, BASELINE, outputs, references="other.txt"))


def too_few_outputs(run):
    (run / raw(run, "translation")[BASELINE]["outputs"]).write_text("the dog.\n" * 19)


ERRORS = {
    "unknown baseline": (
        lambda run: None,
        "--baseline: no system is called 'x'. The systems are: Transformer, beam 4; Trans",
    ),
    "no records": (lambda run: (run / FILE).write_text(""), "records.jsonl holds no records"),
    "no folder": (lambda run: (run / FILE).unlink(), "holds no records.jsonl: give the run folder"),
    "machines": (
        other_machine,
        "was measured on Synthetic CPU, 2 cores, 24 GiB, device cpu; .*Another CPU.*two machines",
    ),
    "precisions": (
        lambda run: replace(run, BASELINE, "latency", precision="int8"),
        f"{BASELINE}: translation was measured in float32 but latency in int8",
    ),
    "test sets": (
        other_references,
        f"{DATA}: .* measured .* on other sentences or references than .*: give different test",
    ),
    "changed references": (
        lambda run: (run / "references.0.txt").write_text("the dog.\n" * 20),
        r"references\.0\.txt has changed since Transformer, beam 4 on Synthetic De-En was recorded",
    ),
    "number of lines": (too_few_outputs, r"has 19 lines for 20 references"),
    "missing outputs": (
        lambda run: (run / raw(run, "translation")[BASELINE]["outputs"]).unlink(),
        rf"is missing \({BASELINE} on {DATA}\): copy the complete run folder",
    ),
    "outputs that are not text": (
        lambda run: (run / raw(run, "translation")[BASELINE]["outputs"]).write_bytes(b"\xff\n"),
        rf"is not UTF-8 \({BASELINE} on {DATA}\)",
    ),
    "empty outputs": (
        lambda run: (run / raw(run, "translation")[BASELINE]["outputs"]).write_bytes(b""),
        rf"is empty \({BASELINE} on {DATA}\)",
    ),
    "one name for two systems": (
        lambda run: append(run, BASELINE),
        f"two systems are called '{BASELINE}': family is Transformer in .* and NART in",
    ),
    "unnamed system": (
        lambda run: replace(run, BASELINE, "latency", system="y"),
        f"latency of {DATA}: no system is called 'y'. The systems are:",
    ),
    "lengths of other sentences": (
        lambda run: replace(
            run, "NART, 1 length", "translation", predicted_lengths=[1], reference_lengths=[1]
        ),
        "1 predicted_lengths for 20 references",
    ),
    "sweep of an unknown test set": (
        lambda run: write(
            run,
            synthetic_run.Sweep(
                **synthetic_run.COMMON, system=BASELINE, data="Z", parameter="crf_rank", value=8,
                outputs="references.0.txt", data_sha256="0", checkpoint_sha256="0",
            ),
        ),
        "Transformer, greedy on Z with crf_rank 8: its references are missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_reported(case, small, tmp_path, capsys):
    damage, message = ERRORS[case]
    damage(small)
    baseline = "x" if case == "unknown baseline" else BASELINE
    assert report(small, out=tmp_path / "out", baseline=baseline) == 1
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1, error
    assert error.startswith("fairseq-nart report: ") and not (tmp_path / "out").exists()


def test_unknown_teacher_is_reported(small, tmp_path, capsys):
    assert report(small, out=tmp_path / "out", teacher="x") == 1
    assert "--teacher: no system is called 'x'" in capsys.readouterr().err


def test_text_is_split_only_at_line_feeds(small):
    strange = ["a\u2028b", "c\x0bd\x85e\rf", *["g"] * 18]
    write(small, synthetic_run.translation(small, BASELINE, strange))
    assert collect([small]).translations[BASELINE, DATA].outputs == strange


def test_report_without_matplotlib_and_torch(small, tmp_path):
    """Figures are skipped with a message, and torch is not loaded."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from fairseq_nart.cli import main\n"
        f"words = ['--out', {str(tmp_path / 'out')!r}, '--baseline', {BASELINE!r}]\n"
        f"assert main(['report', {str(small)!r}, *words, '--teacher', {TEACHER!r}]) == 0\n"
        "assert not {'torch', 'fairseq'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert NO_MATPLOTLIB in done.stdout
    page = (tmp_path / "out/index.html").read_text("utf-8")
    assert NO_MATPLOTLIB in page and "<img" not in page and "<h2>Figures" not in page


def test_page_shows_the_circumstances(run, out):
    page = (out / "index.html").read_text("utf-8")
    head = page[page.index("<header>") : page.index("</header>")]
    sha = raw(run, "translation")[TEACHER]["data_sha256"][:12]
    for fact in (
        DATA,
        "60 sentences",
        sha,
        "Synthetic CPU, 2 cores, 24 GiB",
        "torch 2.13.0",
        "0123abc",
    ):
        assert fact in head
    assert f"version:{sacrebleu.__version__}" in head and "tok:13a" in head


@pytest.mark.skipif(not browser.find_browser(), reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 400])
def test_page_is_clean_in_a_browser(width, out):
    """No messages, no requests and nothing wider than the window."""
    with browser.open_page() as page:
        page.open(out / "index.html", width)
        images = page.value(
            "[...document.images].map(image => [image.naturalWidth, "
            "image.getBoundingClientRect().left, image.getBoundingClientRect().right])"
        )
        boxes = page.value(
            "[...document.querySelectorAll('.table')].map(box => [box.scrollWidth, "
            "box.clientWidth, getComputedStyle(box).overflowX])"
        )
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("innerWidth") == width
    assert len(images) == len(list((out / "plots").glob("*.png"))) == 10
    assert all(natural > 0 and left >= 0 and right <= width for natural, left, right in images)
    assert boxes and all(style == "auto" for _, _, style in boxes)
    assert any(inner > outer for inner, outer, _ in boxes) == (width == 400)
    assert not page.messages, page.messages
    assert [url[:5] for url in page.requests[1:]] == ["data:"] * (len(page.requests) - 1)

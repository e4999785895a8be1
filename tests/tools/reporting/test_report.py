"""The report of one or several runs, with its numbers computed again."""

import dataclasses
import json
import re
import statistics
import types

import pytest
import sacrebleu
import synthetic_run
from sacrebleu.significance import PairedTest
from synthetic_report import (
    BASELINE,
    FEW,
    SPEED,
    csv_table,
    drop,
    markdown_table,
    raw,
    replace,
    report,
    texts,
)
from synthetic_run import DATA, SYSTEMS, TEACHER

from fairseq_nart.tools.benchmark.records import FILE, read, write
from fairseq_nart.tools.reporting.markup import TIMES, significant
from fairseq_nart.tools.reporting.published import TABLES, sun2019
from fairseq_nart.tools.reporting.quality import assess, repetition


def test_scores_equal_sacrebleu(run, out):
    rows = csv_table(out)
    assert list(rows) == list(SYSTEMS)
    for name, row in rows.items():
        outputs, references = texts(run, name)
        score = sacrebleu.corpus_bleu(outputs, [references])
        assert row[f"{DATA}: bleu"] == repr(score.score)
        assert row[f"{DATA}: length_ratio"] == repr(score.sys_len / score.ref_len)
        assert row[f"{DATA}: brevity_penalty"] == repr(score.bp)
        as_is = sacrebleu.corpus_bleu(outputs, [references], tokenize="none", force=True)
        assert row[f"{DATA}: other_bleu"] == repr(as_is.score) != repr(score.score)
        assert row[f"{DATA}: chrf"] == repr(sacrebleu.corpus_chrf(outputs, [references]).score)


def test_equal_outputs_have_a_p_value_of_one(run):
    """sacreBLEU's own p-value would be 0.001."""
    outputs, references = texts(run, BASELINE)
    translations = {
        name: types.SimpleNamespace(outputs=outputs, references=references) for name in "abc"
    }
    translations["c"].outputs = outputs[1:] + outputs[:1]
    systems = assess(translations, "a", "13a").systems
    assert [systems[name].p_value for name in "ab"] == [None, 1.0]
    assert systems["c"].p_value < 0.01


def test_confidence_and_p_values_equal_sacrebleu(run, out):
    names = [BASELINE, *(name for name in SYSTEMS if name != BASELINE)]
    systems = [(name, texts(run, name)[0]) for name in names]
    references = [texts(run, BASELINE)[1]]
    signatures, results = PairedTest(systems, {"BLEU": sacrebleu.BLEU()}, references, "bs", 1000)()
    rows = csv_table(out)
    for name, result in zip(names, results["BLEU"]):
        assert float(rows[name][f"{DATA}: confidence"]) == pytest.approx(result.ci, rel=1e-12)
        assert rows[name][f"{DATA}: p_value"] == ("" if name == BASELINE else repr(result.p_value))
    assert str(signatures["BLEU"]) in (out / "index.html").read_text("utf-8")
    assert float(rows["NART, 1 length"][f"{DATA}: p_value"]) < 0.01


def test_gaps_and_speed_ups(run, out):
    rows, latencies = csv_table(out), raw(run, "latency")
    teacher = sacrebleu.corpus_bleu(*[[x] if i else x for i, x in enumerate(texts(run, TEACHER))])
    base = statistics.fmean(latencies[BASELINE]["seconds"])
    for name, row in rows.items():
        milliseconds = sorted(1000 * x for x in latencies[name]["seconds"])
        mean = statistics.fmean(milliseconds)
        assert float(row[f"{SPEED}: mean ms"]) == pytest.approx(mean)
        assert float(row[f"{SPEED}: median ms"]) == pytest.approx(statistics.median(milliseconds))
        for percent in (95, 99):
            place = percent / 100 * (len(milliseconds) - 1)
            low, share = int(place), place % 1
            value = milliseconds[low] * (1 - share) + milliseconds[low + 1] * share
            assert float(row[f"{SPEED}: p{percent} ms"]) == pytest.approx(value)
        assert float(row[f"{SPEED}: speed_up"]) == pytest.approx(1000 * base / mean)
        if name == TEACHER:
            assert row[f"{DATA}: gap"] == ""
        else:
            gap = teacher.score - float(row[f"{DATA}: bleu"])
            assert float(row[f"{DATA}: gap"]) == pytest.approx(gap)


def test_table_shows_the_numbers(out):
    text, rows = (out / "table.md").read_text("utf-8"), csv_table(out)
    header, _, *shown = markdown_table(text)
    assert header == [
        "system", f"BLEU, {DATA}", "latency, ms (text to text)", "speed-up", "threads",
    ]  # fmt: skip
    for cells, (name, row) in zip(shown, rows.items(), strict=True):
        bleu, gap = row[f"{DATA}: bleu"], row[f"{DATA}: gap"]
        assert cells[0] == name
        assert cells[1] == f"{float(bleu):.2f}" + (f" ({float(gap):.2f})" if gap else "")
        for cell, value in ((cells[2], "mean ms"), (cells[3][:-1], "speed_up")):
            value = float(row[f"{SPEED}: {value}"])
            assert float(cell) == pytest.approx(value, rel=0.006)
            assert len(cell.replace(".", "")) == 3
        assert cells[3].endswith(TIMES)
        assert cells[4] == str(SYSTEMS[name].threads)
    assert dict(zip(rows, [row[3] for row in shown]))[BASELINE] == "1.00×"  # noqa: RUF001


def test_details_show_the_numbers(run, out):
    text, rows = (out / "table.md").read_text("utf-8"), csv_table(out)

    def details(title):
        header, _, *cells = markdown_table(text[text.index(f"\n## {title}") :])
        return {row[0]: dict(zip(header, row)) for row in cells}

    speed, quality = details("Latency in detail"), details("Quality in detail")
    rates, memory = details("Sentences per second"), raw(run, "memory")
    lengths = details("Latency by source tokens")
    operations, needed = raw(run, "operations"), details("Operations")
    timed = {r.system: r for r in read(run) if r.kind == "latency" and r.scope == "text"}
    recorded = {(r.system, r.batch): r for r in read(run) if r.kind == "throughput"}
    columns = {"mean, ms": "mean", "median": "median", "95 %": "p95", "99 %": "p99"}
    for name, row in rows.items():
        for column, key in columns.items():
            value = float(row[f"{SPEED}: {key} ms"])
            assert float(speed[name][column]) == pytest.approx(value, rel=0.006)
        flop = operations[name]["flop"]
        assert float(needed[name]["GFLOP"]) == pytest.approx(flop / 1e9, rel=0.006)
        seconds = [timed[name].seconds[n] for n in operations[name]["sentences"]]
        fast = flop / 1e9 / statistics.mean(seconds)
        assert float(needed[name]["GFLOP/s"].replace(",", "")) == pytest.approx(fast, rel=0.006)
        assert row[f"{DATA}: operations"] == str(flop)
        mean = 1000 * statistics.mean(seconds)
        assert float(needed[name]["latency, ms"]) == pytest.approx(mean, rel=0.006)
        # At the best rate of all systems with the same precision.
        best = 1e11 if operations[name]["rate"] else None
        assert needed[name]["floor, ms"] == (significant(1000 * flop / best) if best else "")
        assert row[f"{DATA}: floor ms"] == (str(1000 * flop / best) if best else "")
        slow = 1000 * (SYSTEMS[name].fixed + 40 * SYSTEMS[name].per_token) / 1000
        assert lengths[name]["40"] == significant(slow)
        gib = memory[name]["peak_bytes"] / 2**30
        assert speed[name]["peak memory, GiB"] == f"{gib:.2f}"
        interval = f"{float(row[f'{DATA}: confidence']):.2f}"
        assert quality[name]["BLEU (13a)"].split(" ± ")[1] == interval
        share = f"{100 * float(row[f'{DATA}: repetition']):.2f}"
        assert quality[name]["repeated tokens, %"] == share
        assert row[f"{DATA}: peak bytes"] == str(memory[name]["peak_bytes"])
        rate = recorded[name, 64].sentences_per_second
        assert row[f"{DATA}: sentences per second, batch 64"] == repr(rate)
        assert float(rates[name]["batch 64"].replace(",", "")) == pytest.approx(rate, rel=0.006)


def test_latency_by_length(run, out):
    """The lengths of the baseline's outputs define the groups for all systems."""
    text, latencies = (out / "table.md").read_text("utf-8"), raw(run, "latency")
    header, _, *rows = markdown_table(text[text.index("\n## Latency by length") :])
    assert [row[0] for row in rows] == list(SYSTEMS) and len(header) > 4
    lengths = latencies[BASELINE]["target_tokens"]
    for name, *cells in rows:
        for span, cell in zip(header[1:], cells, strict=True):
            low, *high = map(int, span.split(" to "))
            spent = zip(lengths, latencies[name]["seconds"], strict=True)
            mean = statistics.fmean(x for n, x in spent if low <= n <= max([low, *high]))
            assert float(cell) == pytest.approx(1000 * mean, rel=0.006)


def test_parts_sum_to_the_total(run, out):
    tables = (out / "table.md").read_text("utf-8")
    header, _, *rows = markdown_table(tables, 2)
    assert header[0] == "system" and header[-2:] == ["other", "total"]
    assert header[1:-2] == "encoder length decoder candidates viterbi clean rescoring".split()
    parts = raw(run, "parts")
    for name, *cells in rows:
        *spent, total = (float(cell) for cell in cells if cell)
        assert sum(spent) == pytest.approx(total, abs=0.05)
        assert total == pytest.approx(1000 * parts[name]["total"], abs=0.005)
        rest = 1000 * (parts[name]["total"] - sum(parts[name]["seconds"].values()))
        assert spent[-1] == pytest.approx(rest, abs=0.005)


def test_sweeps_are_shown_as_tables(run, out):
    text, references = (out / "table.md").read_text("utf-8"), texts(run, BASELINE)[1]
    shown = {}
    for part in text.split("\n## BLEU against ")[1:]:
        (_, *values), _, *rows = markdown_table(part)
        for name, *cells in rows:
            shown |= {(name, part[:3], int(v)): x for v, x in zip(values, cells) if x}
    parameters, expected = {"crf_candidates": "can", "crf_rank": "ran"}, {}
    for line in (run / FILE).read_text().splitlines():
        if (record := json.loads(line))["kind"] == "sweep":
            key = (record["system"], parameters[record["parameter"]], record["value"])
            outputs = (run / record["outputs"]).read_text().splitlines()
            expected[key] = f"{sacrebleu.corpus_bleu(outputs, [references]).score:.2f}"
    assert shown == expected and len(expected) == 14


def test_repetition_and_empty_outputs(small, tmp_path, no_plots):
    assert repetition(["a a b b b", "", "c", "d  d do"]) == 4 / 9
    assert repetition(["", ""]) == 0
    outputs = ["", " ", *["the the dog sees."] * 18]
    write(small, synthetic_run.translation(small, "NART, 1 length", outputs))
    assert report(small, out=tmp_path / "out") == 0
    row = csv_table(tmp_path / "out")["NART, 1 length"]
    assert row[f"{DATA}: empty"] == "2" and float(row[f"{DATA}: repetition"]) == 1 / 4


def test_iterations_of_refining_systems(run, out):
    name = synthetic_run.REFINING
    mean = statistics.fmean(raw(run, "translation")[name]["iterations"])
    rows = csv_table(out)
    assert {row[f"{DATA}: iterations"] for key, row in rows.items() if key != name} == {""}
    assert float(rows[name][f"{DATA}: iterations"]) == mean
    tables = [markdown_table((out / "table.md").read_text("utf-8"), n) for n in range(6)]
    (shown,) = (
        dict(zip(t[0], row)) for t in tables if "chrF" in t[0] for row in t if row[0] == name
    )
    assert shown["iterations"] == f"{mean:.2f}"


def test_other_tokenisation(run, tmp_path, no_plots):
    assert report(run, out=tmp_path, words=["--tokenize", "none"]) == 0
    row = csv_table(tmp_path)["NART, 1 length"]
    outputs, references = texts(run, "NART, 1 length")
    as_is = sacrebleu.corpus_bleu(outputs, [references], tokenize="none", force=True)
    assert row[f"{DATA}: bleu"] == repr(as_is.score)
    assert row[f"{DATA}: other_bleu"] == repr(sacrebleu.corpus_bleu(outputs, [references]).score)
    text = (tmp_path / "table.md").read_text("utf-8")
    assert "BLEU (none)" in text and "BLEU (13a)" in text and "tok:none" in text


def test_published_figures_are_separate(out):
    page = (out / "index.html").read_text("utf-8")
    blocks = re.findall(r'<section class="(\w+)"><h2>(.*?)</section>', page, re.S)
    published = [text for kind, text in blocks if kind == "published"]
    assert len(published) == 1 and published[0].startswith("Published by Sun et al. 2019, not")
    measured = "".join(text for kind, text in blocks if kind == "measured")
    assert "26.80 (0.61)" in published[0] and "26.80 (0.61)" not in measured
    assert all(f">{name}<" not in published[0] for name in SYSTEMS if name != TEACHER)
    for row in sun2019().rows:
        assert len(row) == len(sun2019().header)
        if row[5].endswith(TIMES):
            assert 387 / float(row[4]) == pytest.approx(float(row[5][:-1]), rel=0.02)
    assert len(sun2019().rows) == 28  # each system and each number of candidates of Table 2


def test_published_figures_of_gu2018(small, tmp_path, no_plots):
    """The gaps are those that Table 2 of Sun et al. 2019 prints."""
    assert report(small, out=tmp_path, words=["--published", "gu2018"]) == 0
    text = (tmp_path / "table.md").read_text("utf-8")
    assert "Published by Gu et al. 2018, not measured here" in text and "Sun et al." not in text
    table = TABLES["gu2018"]()
    cells = {cell for row in table.rows for cell in row}
    gaps = {"5.76", "5.55", "4.79", "4.61", "4.28", "3.82"}
    assert {re.search(r"\((.*)\)", x)[1] for x in cells if "(" in x} == gaps
    assert {"29.79", "31.44", "28.16"} <= cells
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_later_record_replaces_the_earlier(small, tmp_path, no_plots):
    replace(small, BASELINE, "latency", seconds=[3.0] * 20)
    replace(small, "NART, 1 length", "latency", seconds=[0.5] * 20, threads=1)
    assert report(small, out=tmp_path / "out") == 0
    row = csv_table(tmp_path / "out")["NART, 1 length"]
    assert float(row[f"{SPEED}: speed_up"]) == 6 and row["threads"] == "1"


def test_partial_last_line_is_ignored(small, tmp_path, no_plots):
    assert report(small, out=tmp_path / "one") == 0
    with open(small / FILE, "ab") as stream:
        stream.write((small / FILE).read_bytes().splitlines()[-1][:-7])
    assert report(small, out=tmp_path / "two") == 0
    assert (tmp_path / "one/table.md").read_bytes() == (tmp_path / "two/table.md").read_bytes()


def test_two_runs_and_two_test_sets(tmp_path, capsys, no_plots):
    one = synthetic_run.make_run(tmp_path / "one", data=("A", "B"), sentences=9, systems=FEW[:2])
    two = synthetic_run.make_run(
        tmp_path / "two", data=("A",), sentences=9, systems=FEW[2:3], scopes=("text", "tokens")
    )
    assert report(one, two, out=tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "Not translated: B by NART, 1 length." in printed
    assert f"Latency not measured (A, tokens to tokens): {TEACHER}; {BASELINE}." in printed
    header, _, *rows = markdown_table(printed)
    assert header[1:3] == ["BLEU, A", "BLEU, B"]
    assert header[3::2] == [
        "latency, ms (A, text to text)",
        "latency, ms (A, tokens to tokens)",
        "latency, ms (B, text to text)",
        "threads",
    ]
    assert [row[0] for row in rows] == list(FEW[:3])
    assert rows[2][1] and rows[2][3] and rows[2][4].endswith(TIMES)
    assert rows[2][2] == "" and rows[2][5] and rows[2][6:9] == ["", "", ""]


def test_teacher_and_baseline_without_translation(small, tmp_path, capsys, no_plots):
    drop(small, TEACHER, "translation")
    drop(small, BASELINE, "translation")
    assert report(small, out=tmp_path / "out") == 0
    assert f"No gaps on {DATA}: the teacher, {TEACHER}, did not" in capsys.readouterr().out
    rows = csv_table(tmp_path / "out")
    for row in (rows["NART, 1 length"], rows["NART-DCRF, 9 lengths"]):
        assert row[f"{DATA}: gap"] == row[f"{DATA}: p_value"] == ""
        assert float(row[f"{DATA}: confidence"]) > 0 and row[f"{SPEED}: speed_up"]


def test_speed_up_needs_interleaved_trials(small, tmp_path, capsys, no_plots):
    def csv_of(out):
        assert report(small, out=tmp_path / out) == 0
        return csv_table(tmp_path / out)

    name, before = "NART, 1 length", csv_of("before")
    (base,) = (x for x in read(small) if x.subject[:2] == ("latency", BASELINE))
    later = {"seconds": [3.0] * 20, "begun": "2026-02-01T12:00:00+00:00"}
    write(small, dataclasses.replace(base, **later))
    rows = csv_of("later")
    assert float(rows[BASELINE][f"{SPEED}: mean ms"]) == pytest.approx(3000)
    assert rows[name][f"{SPEED}: speed_up"] == before[name][f"{SPEED}: speed_up"]
    capsys.readouterr()
    replace(small, name, "latency", begun="2026-02-02T12:00:00+00:00")
    assert csv_of("apart")[name][f"{SPEED}: speed_up"] == ""
    printed = capsys.readouterr().out
    reason = f"it was not timed in interleaved trials with {BASELINE}"
    assert f"No speed-up of {name} ({SPEED}): {reason}" in printed


def test_names_are_escaped(tmp_path, no_plots):
    name = 'a | b <img src="x">\n& "c"'
    few = {"sentences": 4, "systems": [TEACHER, BASELINE], "data": ["<i>A | B"]}
    run = synthetic_run.make_run(tmp_path / "run", **few)
    write(run, synthetic_run.system(BASELINE, name=name))
    write(run, synthetic_run.translation(run, name, ["the dog"] * 4, data="<i>A | B"))
    assert report(run, out=tmp_path / "out") == 0
    page = (tmp_path / "out/index.html").read_text("utf-8")
    assert "a | b &lt;img src=&quot;x&quot;&gt;" in page
    assert "<img" not in page and "<i>" not in page
    rows = markdown_table((tmp_path / "out/table.md").read_text("utf-8"))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert name in csv_table(tmp_path / "out")

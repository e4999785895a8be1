"""The order of a benchmark's measurements, on systems with given times."""

import contextlib
import types
from pathlib import Path

import pytest

from fairseq_nart.cli import main
from fairseq_nart.tools.benchmark import stages
from fairseq_nart.tools.benchmark.measuring import Timed
from fairseq_nart.tools.benchmark.plan import SystemPlan
from fairseq_nart.tools.benchmark.session import Session, Text, _Layouts


def test_latency_is_interleaved_with_other_stages(monkeypatch, tmp_path):
    order = []
    for name in ("latency", "parts_and_memory", "translations", "throughput", "lengths", "sweeps"):
        module = "lengths" if name == "lengths" else "stages"
        monkeypatch.setattr(
            f"fairseq_nart.tools.benchmark.{module}.{name}",
            lambda *arguments, name=name: order.append((name, *arguments[3:])),
        )
    monkeypatch.setattr("fairseq_nart.tools.bench.read_plan", lambda *_: None)
    session = types.SimpleNamespace(workers=contextlib.nullcontext)
    monkeypatch.setattr("fairseq_nart.tools.bench.Session", lambda *_: session)
    assert main(["bench", "plan.toml", "--out", str(tmp_path)]) == 0
    assert [name for name, *_ in order] == [
        *("latency", "parts_and_memory", "latency", "translations", "latency", "throughput"),
        *("lengths", "sweeps"),
    ]
    assert [rest for name, *rest in order if name == "latency"] == [[1], [2], [3]]
    order.clear()
    assert main(["bench", "plan.toml", "--out", str(tmp_path), "--repeats", "1"]) == 0
    assert [name for name, *_ in order][:2] == ["latency", "parts_and_memory"] and len(order) == 6


def test_layouts_are_tried_in_interleaved_trials(tmp_path, monkeypatch):
    """The median decides. Here the mean or the minimum would choose the other layout."""
    seconds = {("a", 1): [3, 3, 3, 3, 1], ("a", 2): [2, 2, 9, 2, 9], ("b", 1): [1], ("b", 2): [2]}
    seen = []

    def worker(name):
        now = [0]

        def call(what, argument, *_):
            if what == "lay_out":
                now[0] = argument.threads
                return None
            seen.append((name, now[0]))
            times = seconds[name, now[0]]
            return [Timed(0, times[seen.count((name, now[0])) % len(times) - 1], 1)]

        plan = types.SimpleNamespace(name=name, threads=None)
        return types.SimpleNamespace(plan=plan, call=call)

    monkeypatch.setattr("fairseq_nart.tools.benchmark.circumstances.cores", lambda: 2)
    file, text = tmp_path / "threads.json", Text("toy", "", ["x"], ["x"], [0])
    workers = [worker("a"), worker("b")]
    layouts = _Layouts(file)
    layouts.find(workers, text, "latency")
    assert seen == [(name, threads) for name in "ab" for threads in (1, 2)] * 5
    assert [layouts.best(x.plan, "latency").threads for x in workers] == [2, 1]
    again = _Layouts(file)
    again.find(workers, text, "latency")
    assert len(seen) == 20 and again.best(workers[0].plan, "latency").threads == 2


def test_systems_for_a_cpu_are_skipped_on_a_gpu(capsys):
    plans = [SystemPlan(name, name, Path("x.pt"), engine=name) for name in ("onnx", "fairseq")]
    session = Session.__new__(Session)
    session.plan, session.device = types.SimpleNamespace(systems=plans), "cuda"
    assert session._runnable() == plans[1:]
    assert "1 systems are left out, because engine onnx needs a CPU" in capsys.readouterr().out
    session.device = "cpu"
    assert session._runnable() == plans
    session.device, session.plan.systems = "cuda", plans[:1]
    with pytest.raises(ValueError, match="no system is left to measure"):
        session._runnable()


def test_throughput_is_measured_until_it_falls_twice(monkeypatch):
    """All systems translate the same sentences. The faster of two trials counts."""
    monkeypatch.setattr("fairseq_nart.tools.benchmark.circumstances.cores", lambda: 2)
    rates = {  # sentences per second in batches of 1, 2, 4, ...
        "rises": [1, 2, 3, 4, 5, 6, 7, 8],
        "falls twice": [2, 4, 3, 1, 9, 9, 9, 9],
        "falls once at a time": [4, 2, 3, 1, 2, 1, 1, 1],
    }
    seen, records = [], {}

    def worker(name):
        def call(what, lines=(), size=0):
            if what == "lay_out":
                return None
            again = (name, size, tuple(lines)) in seen
            seen.append((name, size, tuple(lines)))
            return (1 if again else 2) * len(lines) / rates[name][size.bit_length() - 1], 7

        return types.SimpleNamespace(plan=types.SimpleNamespace(name=name), call=call)

    def write(kind, worker, layout, **fields):
        records[fields["system"], fields["batch"]] = types.SimpleNamespace(**fields)

    session = types.SimpleNamespace(
        texts=[Text("toy", "", [*"abc", "", *"def"], [], [])],
        find_layouts=lambda *_: None,
        layout=lambda *_: None,
        known=lambda kind, system, batch, **_: records.get((system, batch)),
        write=write,
    )
    stages.throughput(session, [worker(name) for name in rates], 128)
    measured = {
        name: [x.sentences_per_second for (y, _), x in records.items() if y == name]
        for name in rates
    }
    assert measured == {**rates, "falls twice": [2, 4, 3, 1]}
    for size in (1, 8, 128):
        taken = {lines for _, batch, lines in seen if batch == size}
        # Without blank lines, and as many as the batch asks for, although the text has but six.
        assert len(taken) == 1 and all(len(lines) >= max(64, 4 * size) for lines in taken)
        assert all(line.strip() for lines in taken for line in lines)

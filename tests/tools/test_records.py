"""Records of a benchmark: writing, reading and errors."""

import dataclasses
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import synthetic_run

from fairseq_nart.files import locked
from fairseq_nart.tools.benchmark.records import FILE, KINDS, Latency, Memory, read, write
from fairseq_nart.tools.reporting.collection import collect

LATENCY = Latency(
    **synthetic_run.COMMON,
    system="NART, 1 length",
    data="Synthetic De-En",
    data_sha256="0" * 64,
    scope="text",
    seconds=[0.5, 1],
    target_tokens=[7, 9],
    sentences=[0, 1],
    repeats=3,
    begun="2026-01-31T12:00:00+00:00",
)


def memory(peak):
    return Memory(
        **synthetic_run.COMMON,
        system="NART, 1 length",
        data="Synthetic",
        data_sha256="0" * 64,
        peak_bytes=peak,
        sentences=[0, 1],
    )


def lines(folder):
    return (folder / FILE).read_bytes().splitlines(keepends=True)


def test_every_kind_is_written_and_read(tmp_path):
    run = synthetic_run.make_run(tmp_path / "run", sentences=5)
    records = read(run)
    assert {record.kind for record in records} == set(KINDS)
    for record in records:
        write(tmp_path, record)
    assert read(tmp_path) == records
    assert (tmp_path / FILE).read_bytes() == (run / FILE).read_bytes()


def test_partial_last_line_is_ignored(tmp_path):
    for peak in (1, 2):
        write(tmp_path, memory(peak))
    whole = (tmp_path / FILE).read_bytes()
    first = len(lines(tmp_path)[0])
    for cut in range(first + 1, len(whole) - 1):
        (tmp_path / FILE).write_bytes(whole[:cut])
        assert read(tmp_path) == [memory(1)], whole[first:cut]
    write(tmp_path, memory(3))
    assert read(tmp_path) == [memory(1), memory(3)]


def test_last_line_without_line_feed_is_read(tmp_path):
    write(tmp_path, memory(1))
    (tmp_path / FILE).write_bytes(lines(tmp_path)[0].rstrip(b"\n"))
    assert read(tmp_path) == [memory(1)]
    write(tmp_path, memory(2))
    assert read(tmp_path) == [memory(1), memory(2)]


def test_partial_line_in_the_middle_is_an_error(tmp_path):
    for peak in (1, 2):
        write(tmp_path, memory(peak))
    one, two = lines(tmp_path)
    (tmp_path / FILE).write_bytes(one[:20] + b"\n" + two)
    with pytest.raises(ValueError, match=r"records\.jsonl, line 1: not JSON"):
        read(tmp_path)


def test_write_waits_for_the_lock(tmp_path):
    write(tmp_path, memory(1))
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / FILE):
            other = pool.submit(write, tmp_path, memory(2))
            time.sleep(0.2)
            assert not other.done() and read(tmp_path) == [memory(1)]
        other.result()
    assert read(tmp_path) == [memory(1), memory(2)]


def test_missing_records_are_reported(tmp_path):
    with pytest.raises(ValueError, match=r"holds no records\.jsonl: give the run folder"):
        read(tmp_path)
    (tmp_path / FILE).write_text("")
    assert read(tmp_path) == []
    with pytest.raises(ValueError, match=r"records\.jsonl holds no records"):
        collect([tmp_path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "speed"}, "unknown kind 'speed': expected one of system, translation,"),
        ({"seconds": None}, "latency: field 'seconds' must be list[float], not 'None'"),
        ({"seconds": [0.5, True]}, "latency: field 'seconds' must be list[float]"),
        ({"seconds": [0.5, "1"]}, "latency: field 'seconds' must be list[float]"),
        ({"seconds": [0.5]}, "latency: seconds, target_tokens and sentences need one entry"),
        ({"seconds": [0.5, 0]}, "latency: seconds must be above 0, not 0"),
        ({"seconds": [0.5, float("nan")]}, "NaN is not a possible measurement"),
        ({"scope": "words"}, "latency: field 'scope' must be Literal['tokens', 'text']"),
        ({"threads": 1.5}, "latency: field 'threads' must be int, not '1.5'"),
        ({"versions": {"torch": 2}}, "latency: field 'versions' must be dict[str, str]"),
        ({"speed": 1}, "latency: unknown field 'speed'"),
        ({"machine": {"cpu": "a", "cores": 2}}, "latency: field 'memory_gib' is missing"),
        ({"machine": "a"}, "latency: field 'machine' must be Machine, not 'a'"),
    ],
)
def test_invalid_records_are_reported(change, message, tmp_path):
    write(tmp_path, memory(1))
    content = {"kind": "latency", **dataclasses.asdict(LATENCY), **change}
    with open(tmp_path / FILE, "a") as stream:
        stream.write(json.dumps(content) + "\n")
    with pytest.raises(ValueError, match=rf"records\.jsonl, line 2: .*{re.escape(message)}"):
        read(tmp_path)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LATENCY)])
def test_missing_field_is_reported(name, tmp_path):
    content = {"kind": "latency", **dataclasses.asdict(LATENCY)}
    del content[name]
    (tmp_path / FILE).write_text(json.dumps(content) + "\n")
    with pytest.raises(ValueError, match=f"line 1: latency: field '{name}' is missing"):
        read(tmp_path)


def test_invalid_record_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="peak_bytes"):
        write(tmp_path, memory("much"))
    assert not (tmp_path / FILE).exists()


def test_lengths_must_be_recorded_together(tmp_path):
    run = synthetic_run.make_run(tmp_path / "run", sentences=3, systems=[synthetic_run.TEACHER])
    translation = synthetic_run.translation
    with pytest.raises(ValueError, match="0 predicted_lengths but 3 reference_lengths"):
        translation(run, synthetic_run.TEACHER, ["a"] * 3, reference_lengths=[1, 2, 3])
    with pytest.raises(ValueError, match="2 predicted_lengths but 3 reference_lengths"):
        translation(run, "a", ["a"], reference_lengths=[1, 2, 3], predicted_lengths=[1, 2])

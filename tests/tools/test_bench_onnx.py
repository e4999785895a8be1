"""Engine onnx of `fairseq-nart bench`, and the other engines beside it."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import toys

from fairseq_nart import runtime
from fairseq_nart.cli import main
from fairseq_nart.runtime.graphs import load
from fairseq_nart.subwords import Subwords
from fairseq_nart.tools._teacher import Teacher
from fairseq_nart.tools.benchmark import prepared, products, vocabulary_map
from fairseq_nart.tools.benchmark.engines import Layout
from fairseq_nart.tools.benchmark.lengths import SENTENCES, of_length
from fairseq_nart.tools.benchmark.measuring import Measuring
from fairseq_nart.tools.benchmark.onnx_engine import OnnxEngine
from fairseq_nart.tools.benchmark.plan import SystemPlan
from fairseq_nart.tools.benchmark.records import (
    FILE,
    Latency,
    Operations,
    Parts,
    SourceLength,
    System,
    Throughput,
    Translation,
    read,
)
from fairseq_nart.tools.benchmark.session import Text
from fairseq_nart.tools.benchmark.worker import Worker

ONE, THREE = "NART-DCRF, 1 length", "NART-DCRF, 3 lengths"
PLAN = """
binarised = "{data}"
[[test]]
name = "toy"
source = "{text}/test.de"
references = "{text}/test.en"
[[system]]
family = "Transformer"
checkpoint = "{teacher}"
engine = "ctranslate2"
beam = 2
vocabulary_map = true
[[system]]
family = "NART-DCRF"
checkpoint = "{student}"
length_candidates = [1, 3]
rescore_with = "{teacher}"
[[system]]
family = "NART-DCRF"
checkpoint = "{student}"
engine = "onnx"
length_candidates = [1, 3]
rescore_with = "{teacher}"
[[system]]
family = "NART-DCRF"
checkpoint = "{student}"
engine = "onnx"
precision = "int8"
length_candidates = 3
rescore_with = "{teacher}"
rescore_best = 2
[lengths]
systems = ["Transformer, beam 2, vocabulary map, CTranslate2 float32", "{one}"]
tokens = [3, 6]
"""
EXPORTED = {
    f"{ONE}, ONNX float32": ONE,
    f"{THREE}, ONNX float32": THREE,
    f"{THREE}, best 2 rescored, ONNX int8": None,
}
"""And the system of engine fairseq that translates in the same way."""


@pytest.fixture(scope="module")
def bench(data, teacher, student, tmp_path_factory):
    """Runs all stages into a folder; returns the exit status."""
    text = tmp_path_factory.mktemp("text")
    toys.write_text(text, {"train": 200, "test": 9})
    plan = tmp_path_factory.mktemp("plan") / "plan.toml"
    files = {"data": data, "text": text, "teacher": teacher, "student": student}
    plan.write_text(PLAN.format(**files, one=f"{ONE}, ONNX float32"))
    words = {"sentences": 5, "repeats": 2, "max-batch-size": 2, "device": "cpu"}
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fairseq_nart.tools.benchmark.circumstances.cores", lambda: 1)
        yield lambda out: main(["bench", str(plan), "--out", str(out), *options])


@pytest.fixture(scope="module")
def ran(bench, tmp_path_factory):
    """A finished run folder."""
    out = tmp_path_factory.mktemp("bench") / "run"
    assert bench(out) == 0
    return out


@pytest.fixture
def demo(tmp_path):
    """The engine with the model that is shipped with the package."""
    plan = SystemPlan("x", "x", Path("x.pt"), engine="onnx", options={"length_candidates": 3})
    return OnnxEngine(plan, runtime.demo_folder())


def of_kind(folder, kind):
    return {x.system: x for x in read(folder) if isinstance(x, kind)}


def sources(engine, count):
    """Token ids of sentences of 3, 4, 5, ... words, no two alike."""
    words = [x for x in engine.text.ids if x.isalpha()]
    return [
        engine.encode([words[(n + i) % len(words)] for i in range(3 + n)]) for n in range(count)
    ]


def test_every_record_is_written(ran):
    for kind in (Latency, Throughput, Translation, Parts, Operations):
        assert set(EXPORTED) <= of_kind(ran, kind).keys()
    systems = {x.name: x for x in read(ran) if isinstance(x, System)}
    assert [(systems[x].engine, systems[x].lengths) for x in EXPORTED] == [
        *(("onnx", 1), ("onnx", 3), ("onnx", 3))
    ]
    latency = of_kind(ran, Latency)[f"{ONE}, ONNX float32"]
    assert latency.versions.keys() == {"python", "onnxruntime", "numpy"}


def test_float32_translates_as_engine_fairseq_does(ran):
    records = of_kind(ran, Translation)
    for name, same in EXPORTED.items():
        ours = records[name]
        outputs = (ran / ours.outputs).read_text("utf-8")
        assert len(outputs.splitlines()) == 9 and outputs.strip()
        if same:
            assert outputs == (ran / records[same].outputs).read_text("utf-8")
            assert ours.predicted_lengths == records[same].predicted_lengths
    one, three = ((ran / records[x].outputs).read_text("utf-8") for x in (ONE, THREE))
    assert one != three  # else the teacher would not be tested


def test_parts_are_graphs_and_search(ran):
    parts = {name: set(record.seconds) for name, record in of_kind(ran, Parts).items()}
    own = {"encoder", "length", "decoder", "viterbi", "clean", "pick"}
    assert [parts[name] for name in EXPORTED] == [own, own | {"rescoring"}, own | {"rescoring"}]


def test_operations_agree_with_torch(ran):
    """They are not equal: each engine fuses some products, and skips others."""
    counted = of_kind(ran, Operations)
    for name, same in EXPORTED.items():
        assert counted[name].rate > 0
        if same:
            assert counted[name].flop == pytest.approx(counted[same].flop, rel=0.2)
            assert counted[same].rate is None


def test_lengths_are_timed_together(ran):
    records = [x for x in read(ran) if isinstance(x, SourceLength)]
    names = ["Transformer, beam 2, vocabulary map, CTranslate2 float32", f"{ONE}, ONNX float32"]
    assert [(x.tokens, x.system) for x in records] == [(n, x) for n in (3, 6) for x in names]
    assert all(len(x.seconds) == SENTENCES and x.repeats == 2 for x in records)
    assert records[0].begun == records[1].begun


def test_finished_run_exports_and_measures_nothing_again(bench, ran):
    def state():
        return {file: file.stat().st_mtime_ns for file in (ran / "onnx").rglob("*")}

    before, records = state(), (ran / FILE).read_bytes()
    assert bench(ran) == 0
    assert state() == before and (ran / FILE).read_bytes() == records


def test_worker_does_not_load_torch():
    plan = SystemPlan("x", "x", Path("x.pt"), engine="onnx", precision="int8")
    subwords = functools.partial(Subwords, None)
    with Worker(plan, runtime.demo_folder(), subwords, "cpu") as worker:
        worker.call("translate", ["der Mann"], 1)
        mapped = Path(f"/proc/{worker._process.pid}/maps").read_text()
    assert "onnxruntime" in mapped and "torch" not in mapped


@pytest.mark.parametrize("layout", [Layout(1, 2), Layout(2, 3)])
def test_streams_translate_as_one(layout, demo):
    batches = [sources(demo, 9)[n : n + 2] for n in range(0, 9, 2)]
    one = demo.translate(batches)
    demo.lay_out(layout)
    assert len(demo.translators) == layout.streams
    assert demo.translate(batches) == one


def test_only_the_best_translation_is_asked_for(demo, monkeypatch):
    asked = []
    engine = demo.translators[0].engine
    monkeypatch.setattr(
        type(engine), "__call__", lambda _, batch, **words: asked.append(words) or [["best"]]
    )
    assert demo.translate([[[4, 2]]]) == [["best"]]
    assert asked == [{"most": 1, "scored": False}]


def test_missing_packages_are_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda x: None if x == "onnx" else find(x))
    assert prepared.lacking() == {
        "onnx": "ONNX Runtime is not installed: pip install onnx onnxruntime"
    }


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_operations_of_a_product(precision, tmp_path):
    file = tmp_path / "product.onnx"
    products.write(file, precision)
    graph, x = load(file, 1)[products.NAME], np.ones((7, products.INNER), np.float32)
    own = graph.session
    counted = products.operations(file, [graph], lambda: [graph(x=x) for _ in range(3)])
    assert counted == 3 * 2 * 7 * products.INNER * products.OUTER
    assert graph.session is own


def test_operations_of_attention():
    """Both of its products."""
    shapes = {"input_type_shape": [{"float": [3, 5, 16]}, {"float": [3, 7, 16]}]}
    shapes["output_type_shape"] = [{"float": [3, 5, 16]}]
    node = {"op_name": "MultiHeadAttention", **shapes}
    assert products._count(node) == 2 * (2 * 3 * 5 * 7 * 16)


def test_operations_grow_with_the_batch(demo):
    """Except for what all sentences share, such as positions."""
    sentence = sources(demo, 3)[-1]
    demo.translate([[sentence]])  # computes what depends on the length alone, once
    one, two, three = (
        demo.operations(lambda n=n: demo.translate([[sentence] * n])) for n in (1, 2, 3)
    )
    assert three - two == two - one > 0.9 * one


def test_rate_is_that_of_the_best_try(work, monkeypatch):
    """Slow moments do not count."""
    seconds = iter([9, 1, 0.5, *[2] * 99])  # the first is not timed

    class Slow:
        def __call__(self, x):
            work(next(seconds))

    monkeypatch.setattr(products, "load", lambda *_: {products.NAME: Slow()})
    monkeypatch.setattr(products, "ROWS", (4,))
    assert products.rate(Path(), 1) == 2 * 4 * products.INNER * products.OUTER / 0.5


def test_sentences_of_a_length():
    lines = ["a b c", "d e", "f g h i"]
    text = Text("toy", "", lines, lines, [0, 1, 2])
    made = of_length(text, Subwords(None), 5)
    assert len(made) == SENTENCES
    assert set(made) == {"a b c d e", "d e f g h", "f g h i a"}
    assert {len(line.split()) for line in of_length(text, Subwords(None), 40)} == {40}


def test_vocabulary_map_has_the_translations(data, teacher, tmp_path):
    """In the toy corpus each noun has one or two translations."""
    vocabulary_map.write(tmp_path / "map", Teacher.load(teacher, data))
    lines = (tmp_path / "map").read_text("utf-8").splitlines()
    table = {source: target.split() for source, target in (x.split("\t") for x in lines)}
    assert "" in table and "." in table[""]
    assert table["mann"][0] == "man" and table["haus"][0] == "house"
    assert all(len(set(x)) == len(x) and "</s>" not in x for x in table.values())


def test_measuring_reads_and_writes_text(demo):
    """From text to text as users have it."""
    measuring = Measuring(demo, Subwords(None))
    words = [x for x in demo.text.ids if x.isalpha()][:4]
    lines = [" ".join(words), words[0]]
    assert measuring.translate(lines, 2).outputs == demo.translators[0].translate(lines)
    timed = measuring.time(lines)[0]
    assert timed.text >= timed.tokens > 0  # the tokens' time is a part of the text's

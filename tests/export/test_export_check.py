"""The check that exported graphs compute what the model computes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from exported import export_model, rescorer
from toys import build, build_teacher

from fairseq_nart import hub
from fairseq_nart.errors import UserError
from fairseq_nart.export import check, onnx


def test_check_accepts_what_the_model_computes(task, tmp_path):
    for arch in ("nart_dcrf", "nart_ctc", "nart_fertility", "nart_cmlm"):
        model = build(task, f"{arch}_tiny")
        out = export_model(tmp_path / arch, task, model)
        check.check(hub.Translator(model, task), out, "float32")


@pytest.mark.parametrize("graph, output", [("encode", "memory"), ("decode", "scores")])
def test_check_detects_graphs_that_compute_something_else(
    graph, output, task, tmp_path, monkeypatch
):
    """As if the tracer had replaced a value by a constant."""
    model, plain = build(task, "nart_crf_tiny"), onnx.write

    def write(graphs, file, precision):
        (traced,) = (one for one in graphs if one.name == graph)

        def compute(**inputs):
            outputs = traced.compute(**inputs)
            return {**outputs, output: outputs[output] * 0.9}

        changed = replace(traced, compute=compute)
        plain([changed if one is traced else one for one in graphs], file, precision)

    monkeypatch.setattr(onnx, "write", write)
    out = export_model(tmp_path / "model", task, model)
    translator = hub.Translator(model, task)
    with pytest.raises(UserError, match="do not compute what the model computes: for the token"):
        check.check(translator, out, "float32")
    check.check(translator, out, "int8")  # whose results may differ


def test_check_detects_another_teacher(task, tmp_path):
    model = build(task, "nart_dcrf_tiny")
    out = export_model(tmp_path / "model", task, model, build_teacher(task, "transformer"))
    translator = hub.Translator(model, task)
    check.check(translator, out, "float32")
    translator.engine.rescorer = rescorer(build_teacher(task, "transformer", seed=2))
    with pytest.raises(UserError, match="do not compute"):
        check.check(translator, out, "float32")


def test_check_covers_short_and_long_sentences(task):
    translator = SimpleNamespace(task=task, model=SimpleNamespace(longest_source=1024))
    lengths = [len(source) for source in check._sources(translator)]
    assert len(lengths) == check.SENTENCES and (min(lengths), max(lengths)) == (2, 21)
    translator.model.longest_source = 3
    assert max(map(len, check._sources(translator))) == 3

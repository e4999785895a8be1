"""Exports of small models, and comparisons of what they say with what the plugin says."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
import torch
from fairseq.models import BaseFairseqModel

from fairseq_nart import hub, runtime
from fairseq_nart.export import folder as export
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.engine import Hypothesis as PluginHypothesis
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.runtime.candidates import Hypothesis
from fairseq_nart.tasks.nart_translation import NartTranslationTask
from fairseq_nart.teacher.rescoring import TeacherRescorer

EOS, PAD = 2, 1


def rescorer(teacher: BaseFairseqModel) -> TeacherRescorer:
    """As the task builds it by default."""
    return TeacherRescorer(teacher, EOS, "reward", 2.0)


def export_model(
    folder: Path,
    task: NartTranslationTask,
    model: NartModel,
    teacher: BaseFairseqModel | None = None,
    precision: str = "float32",
) -> Path:
    """Writes an exported model into a new `folder`."""
    folder.mkdir()
    translator = hub.Translator(model, task)
    if teacher is not None:
        translator.engine.rescorer = rescorer(teacher)
    path = None if teacher is None else "teacher.pt"
    arch = "nart_tiny"  # only a name in the manifest
    export.write(translator, export.Request(arch, precision, None, path), folder)
    return folder


def sources_of(task: NartTranslationTask, count: int = 9) -> list[list[int]]:
    """Token ids of sentences of mixed lengths; an empty one and one of a single word among them."""
    task.load_dataset("test")
    data = task.dataset("test")
    sources = [data[i]["source"].tolist() for i in range(count - 2)]
    return [sources[0], [EOS], *sources[1:], [sources[0][0], EOS]]


def by_plugin(
    model: NartModel,
    sources: Sequence[Sequence[int]],
    teacher: BaseFairseqModel | None = None,
    **options: object,
) -> list[list[PluginHypothesis]]:
    """What the plugin says, sentence by sentence."""
    ranked = None if teacher is None else rescorer(teacher)
    engine = Engine(model, eos=EOS, pad=PAD, options=model.Decoding(**options), rescorer=ranked)
    return [engine(torch.tensor([source]))[0] for source in sources]


def weight_shapes(folder: Path) -> list[tuple[int, ...]]:
    """The shapes of all weights of an exported model."""
    graph = onnx.load(folder / export.MODEL).graph
    branches = [x.g for node in graph.node for x in node.attribute if x.HasField("g")]
    return sorted(tuple(x.dims) for part in (graph, *branches) for x in part.initializer)


def by_runtime(
    model: runtime.Translator, sources: Sequence[Sequence[int]]
) -> tuple[list[list[Hypothesis]], list[list[Hypothesis]]]:
    """What the exported model says to all sentences together, and sentence by sentence."""
    return model.engine(sources), [model.engine([source])[0] for source in sources]


def require_equal(
    ours: Sequence[Sequence[Hypothesis]], theirs: Sequence[Sequence[PluginHypothesis | Hypothesis]]
) -> None:
    """The same translations with the same scores and passes, in the same order but for ties."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        expected = {tuple(map(int, one.tokens)): one for one in other}
        assert {tuple(one.tokens) for one in mine} == expected.keys()
        for one, ranked in zip(mine, other, strict=True):
            same = expected[tuple(one.tokens)]
            assert one.score == pytest.approx(same.score, rel=1e-6, abs=1e-4)
            assert one.score == pytest.approx(ranked.score, rel=1e-6, abs=1e-4)
            assert one.iterations == same.iterations

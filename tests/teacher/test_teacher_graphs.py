"""Teachers rebuilt for an export; tests of the runtime compare their scores."""

import pytest
import torch
from toys import build_teacher

from fairseq_nart.errors import UserError
from fairseq_nart.teacher.graphs import TeacherGraphs


@pytest.mark.parametrize(
    "kind, words, message",
    [
        ("lstm", [], "it is a LSTMModel, and only Transformer teachers have graphs"),
        ("conv", [], "it is a FConvModel, and only Transformer"),
        ("transformer", ["--layernorm-embedding"], r"\(--layernorm-embedding\)"),
        ("transformer", ["--no-scale-embedding"], r"\(--no-scale-embedding\)"),
        ("transformer", ["--activation-fn", "gelu"], "activation function is gelu, not relu"),
        ("transformer", ["--encoder-learned-pos"], "its positions are not sinusoidal"),
        (
            "transformer",
            ["--arch", "transformer_tiny", "--adaptive-softmax-cutoff", "50"],
            "weights that its graph would lack",
        ),
    ],
)
def test_teacher_without_graphs_is_refused_with_its_reason(kind, words, message, task):
    teacher = build_teacher(task, kind, *words)
    with pytest.raises(UserError, match=rf"^t\.pt cannot be exported: .*{message}"):
        TeacherGraphs("t.pt", teacher, 1)


@pytest.mark.parametrize("kind", ["transformer", "deep"])
def test_scorer_of_a_teacher_has_its_weights(kind, task):
    teacher = build_teacher(task, kind)
    ours, theirs = TeacherGraphs("t.pt", teacher, 1).state_dict(), teacher.state_dict()
    for name, weight in ours.items():
        same = {"embed_tokens.weight": "decoder.embed_tokens.weight"}.get(name, name)
        assert torch.equal(weight, theirs[same]), name

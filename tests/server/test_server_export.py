"""A real exported model behind the server."""

import numpy as np
import pytest
from exported import export_model
from served import served
from toys import build

from fairseq_nart import runtime

LINES = ["heute muss der mann lesen .", "", "der mann", "<unk> </s> 🙂", "lesen " * 300]


@pytest.fixture(scope="module")
def folder(task, tmp_path_factory):
    model = build(task, "nart_dcrf_tiny")
    return export_model(tmp_path_factory.mktemp("export") / "model", task, model)


def test_answers_are_those_of_the_runtime(folder):
    model = runtime.load(folder, 1, length_candidates=3)
    expected = model.translate_n_best(LINES, 5)
    with served(runtime.load(folder, 1, length_candidates=3)) as client:
        _, answer = client.post("/translate", {"lines": LINES})
        status, lattice = client.post("/lattice", {"line": LINES[0]})
    for line, one, candidates in zip(LINES, answer["translations"], expected, strict=True):
        if not line:
            assert one == {"text": "", "score": 0.0, "alternatives": []}
            continue
        found = [one, *one["alternatives"]]
        assert [x["text"] for x in found] == [x.text for x in candidates]
        scores = [x["score"] for x in found]
        np.testing.assert_allclose(scores, [x.score for x in candidates], atol=1e-3)
    assert len(expected[0]) > 1  # there are alternatives
    assert status == 200 and lattice["tokens"] == model.lattice(LINES[0]).tokens


def test_a_model_without_crf(task, tmp_path):
    folder = export_model(tmp_path / "model", task, build(task, "nart_tiny"))
    with served(runtime.load(folder, 1)) as client:
        assert client.post("/lattice", {"line": "der mann"})[0] == 404
        assert len(client.translate(["der mann", ""])) == 2

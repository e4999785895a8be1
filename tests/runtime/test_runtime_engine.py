"""The runtime's engine: batches, passes, positions, rescoring."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from exported import by_plugin, by_runtime, export_model, require_equal, rescorer, sources_of
from toys import build, build_teacher, load_task

from fairseq_nart import runtime
from fairseq_nart.errors import UserError
from fairseq_nart.generation.clean import Candidates as PluginCandidates
from fairseq_nart.runtime import engine as engines
from fairseq_nart.runtime import scorer as scorers
from fairseq_nart.runtime.folder import Scorer
from fairseq_nart.runtime.graphs import load
from fairseq_nart.teacher.graphs import TeacherGraphs
from fairseq_nart.teacher.rescoring import TeacherRescorer

MANY = {
    "nart": {"length_candidates": 9},
    "nart_dcrf": {"length_candidates": 5, "crf_paths": 3},
    "nart_ctc": {"ctc_beam": 4},
    "nart_dag": {"dag_paths": 4},
    "nart_fertility": {"fertility_samples": 5},
    "nart_latent": {"latent_samples": 5},
    "nart_refinement": {"length_candidates": 5, "refinement_stop": "unchanged"},
    "nart_cmlm": {"length_candidates": 5},
}


@pytest.fixture(scope="module")
def teacher(task):
    return build_teacher(task, "transformer")


@pytest.fixture(scope="module", params=MANY)
def exported(request, task, teacher, tmp_path_factory):
    """The name and the folder of each system, with a teacher."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    model = build(task, f"{request.param}_tiny", seed=6)
    return request.param, export_model(folder, task, model, teacher)


def test_sentence_does_not_depend_on_its_batch(exported, task):
    name, folder = exported
    sources = [[5 + (i * j) % 60 for j in range(i % 13)] + [2] for i in range(1, 33)]
    model = runtime.load(folder, threads=1, **MANY[name])
    together, alone = by_runtime(model, sources)
    require_equal(together, alone)


def test_no_more_than_asked_for_are_returned(exported, task):
    name, folder = exported
    model, sources = runtime.load(folder, threads=1, **MANY[name]), sources_of(task)
    every = model.engine(sources)
    for most in (1, 2):
        few = model.engine(sources, most)
        assert [x[:most] for x in every] == few


def test_unscored_translation_is_the_best(exported, task):
    """`translate` does not ask for scores."""
    name, folder = exported
    for options in ({}, MANY[name], {**MANY[name], "rescore": False}):
        model, sources = runtime.load(folder, threads=1, **options), sources_of(task)
        scored, unscored = (model.engine(sources, 1, scored) for scored in (True, False))
        assert [x[0].tokens for x in scored] == [x[0].tokens for x in unscored]


@pytest.mark.parametrize("rescore", [False, True])
@pytest.mark.parametrize("limit", [1, 3000])
def test_several_passes_equal_one(limit, rescore, exported, task, monkeypatch):
    name, folder = exported
    model = runtime.load(folder, threads=1, rescore=rescore, **MANY[name])
    sources, passes, system = sources_of(task), [], model.engine.system
    width = max(map(len, sources))
    whole, decode = model.engine(sources), system.decode

    def spy(source, targets, scored):
        passes.append((targets.valid.size, int(targets.lengths.max())))
        return decode(source, targets, scored)

    monkeypatch.setattr(system, "decode", spy)
    monkeypatch.setattr(engines, "MOST", limit)
    monkeypatch.setattr(scorers, "ELEMENTS_PER_PASS", {"cpu": limit})
    require_equal(model.engine(sources), whole)
    assert len(passes) > 1
    for rows, length in passes:
        assert rows == 1 or rows * system.row_elements(length, width) <= limit


@pytest.mark.parametrize("rescore", [False, True])
def test_equal_scores_are_ranked_alike_in_several_passes(rescore, exported, task, monkeypatch):
    """Passes start with the longest candidates."""
    name, folder = exported
    model = runtime.load(folder, threads=1, rescore=rescore, **MANY[name])
    system = model.engine.system
    decode = system.decode

    def tied(source, targets, scored):
        done = decode(source, targets, scored)
        return replace(done, log_probs=np.zeros(done.tokens.shape, np.float32))

    monkeypatch.setattr(system, "decode", tied)
    zeros = lambda *arguments: [[0.0] * len(some) for some in arguments[-1]]  # noqa: E731
    monkeypatch.setattr(scorers.TeacherScorer, "__call__", zeros)
    source = sources_of(task)[2]
    whole = model.engine([source])
    monkeypatch.setattr(engines, "MOST", 1)
    assert model.engine([source]) == whole
    assert len(whole[0]) > 1


def test_rescoring_the_best_leaves_the_others_out(exported, task, teacher):
    """The N best by the system's own score, ranked by the teacher."""
    name, folder = exported
    sources = sources_of(task)
    own = runtime.load(folder, threads=1, rescore=False, **MANY[name]).engine(sources)
    every = runtime.load(folder, threads=1, **MANY[name]).engine(sources)
    for best in (1, 2, 1000):
        few = runtime.load(folder, threads=1, rescore_best=best, **MANY[name]).engine(sources)
        for kept, ranked, asked in zip(own, every, few, strict=True):
            chosen = [one.tokens for one in kept[:best]]
            expected = [one for one in ranked if one.tokens in chosen]
            require_equal([asked], [expected])


def test_teacher_ranks_by_default_if_there_are_several_candidates(exported, task):
    name, folder = exported
    for options, default in (({}, False), (MANY[name], True)):
        found, expected = (
            runtime.load(folder, threads=1, **options, **more).engine(sources_of(task))
            for more in ({}, {"rescore": default})
        )
        assert found == expected


@pytest.mark.parametrize("rule, alpha", [("gnmt", 0.6), ("mean", 0), ("sum", 0), ("reward", 2.0)])
@pytest.mark.parametrize(
    "words", [(), ("--encoder-normalize-before", "--decoder-normalize-before")]
)
def test_scores_of_an_exported_teacher_equal_the_plugins(rule, alpha, words, task, tmp_path):
    """For candidates of several sentences, some of which are equal."""
    from fairseq_nart.export import onnx

    teacher = build_teacher(task, "transformer", *words)
    traced = TeacherGraphs("teacher.pt", teacher, 1).graphs()
    onnx.write(traced, tmp_path / "model.onnx", "float32")
    graphs = load(tmp_path / "model.onnx", 1)
    about = Scorer(rule, alpha, len(task.target_dictionary), ffn_dim=32, heads=2)
    ours = scorers.TeacherScorer(graphs, about, eos=2)
    source = np.array([[5, 6, 7, 8, 2], [9, 2, 1, 1, 1]])
    words = [[5, 6, 2], [2], [5, 6, 2], [7, 7, 7, 7, 2], [6, 2], [9, 8, 2]]
    tokens = np.array([row + [1] * (5 - len(row)) for row in words])
    mask = tokens != 1
    results = ours(source, source != 1, [words[:3], words[3:]])
    plugin = TeacherRescorer(teacher, 2, rule, alpha)
    with torch.no_grad():
        encoded = plugin.encode(torch.tensor(source), torch.tensor([5, 2]))
        every = map(torch.from_numpy, (tokens, mask, np.zeros(mask.shape, np.float32)))
        rows = torch.tensor([0, 0, 0, 1, 1, 1])
        log_probs = plugin.log_probs(encoded, rows, PluginCandidates(*every))
    expected = plugin.score(log_probs, torch.from_numpy(mask)).view(2, 3).tolist()
    np.testing.assert_allclose(results, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "arch, most",
    [
        *(("nart", 1500), ("nart_fertility", 1500), ("nart_vqvae", 1500)),
        *(("nart_ctc", 400), ("nart_dag", 300)),
    ],
)
def test_sources_may_be_as_long_as_the_model_allows(arch, most, data, tmp_path):
    """Also beyond the 1024 positions that a model is built with; CTC has three frames a token, and
    a graph four vertices."""
    task = load_task(data, max_source_positions=most, max_target_positions=1400)
    model = build(task, f"{arch}_tiny")
    words = ["--max-source-positions", "1500", "--max-target-positions", "1400"]
    teacher = build_teacher(task, "transformer", *words)
    folder = export_model(tmp_path / "model", task, model, teacher)
    ours = runtime.load(folder, threads=1, rescore=True)
    assert (ours.longest_source, ours.manifest.longest_target) == (most, 1400)
    source = [5 + i % 60 for i in range(most - 1)] + [2]
    require_equal(ours.engine([source]), by_plugin(model, [source], teacher))


def test_odd_width_equals_the_plugin(task, tmp_path):
    words = ["--embed-dim", "15", "--attention-heads", "3"]
    model = build(task, "nart_dcrf_tiny", *words)
    ours = runtime.load(export_model(tmp_path / "model", task, model), threads=1)
    require_equal(ours.engine(sources_of(task)), by_plugin(model, sources_of(task)))


def test_more_paths_than_exist_are_left_out(task, tmp_path):
    """Of two candidates, and of a single position with words that are never said."""
    two = build(task, "nart_crf_tiny", "--crf-candidates", "2")
    every = build(
        task, "nart_crf_tiny", "--crf-candidates", "10000", "--length-predictor", "offset"
    )
    every.lengths.offset.fill_(-1)
    for model, sources, paths in ((two, sources_of(task), 200), (every, [[2], [5, 2]], 300)):
        folder = export_model(tmp_path / str(paths), task, model)
        ours = runtime.load(folder, threads=1, crf_paths=paths)
        found = ours.engine(sources)
        require_equal(found, by_plugin(model, sources, crf_paths=paths))
    assert len(found[1]) == len(task.target_dictionary) - 2


@pytest.mark.parametrize(
    "name, option",
    [
        *(("nart_ctc", "ctc_beam"), ("nart_crf", "crf_paths"), ("nart_dag", "dag_paths")),
        ("nart_fertility", "fertility_samples"),
        ("nart_vqvae", "latent_samples"),
    ],
)
def test_too_many_candidates_are_refused(name, option, task, tmp_path):
    """As the plugin does, before any memory is used."""
    folder = export_model(tmp_path / "model", task, build(task, f"{name}_tiny"))
    with pytest.raises(UserError) as caught:
        runtime.load(folder, threads=1, **{option: 10**9})
    message = rf"a sentence of 1 token needs .* GiB for one array.*: lower {option}$"
    assert re.search(message, str(caught.value))


def test_only_options_that_help_are_named(task, tmp_path, monkeypatch):
    """More lengths take no more memory, because they are decoded in several passes."""
    folder = export_model(tmp_path / "model", task, build(task, "nart_crf_tiny"))
    ours = runtime.load(folder, threads=1, crf_paths=50, length_candidates=3)
    system, source = ours.engine.system, [5] * 40 + [2]
    one = runtime.load(folder, threads=1, length_candidates=3).engine.system
    for limit, advice in (
        (one.row_elements(1, len(source)), ": leave the sentence out"),
        (one.sentence_elements(len(source)) + one.row_elements(100, 100), ": lower crf_paths"),
    ):
        monkeypatch.setattr(engines, "MOST_ELEMENTS", limit)
        assert system.row_elements(100, len(source)) > limit
        with pytest.raises(UserError) as caught:
            ours.engine._require_room(100, len(source))
        assert str(caught.value).endswith(advice)


def test_long_sentences_are_bounded_by_their_attention(task, tmp_path, monkeypatch):
    """ONNX Runtime stores its weights: 64 sentences of 1,024 tokens took 1.4 GB more."""
    folder = export_model(tmp_path / "model", task, build(task, "nart_tiny"))
    ours, rows = runtime.load(folder, threads=1), []
    system = ours.engine.system
    encode = system.encode
    monkeypatch.setattr(system, "encode", lambda x: rows.append(x.shape) or encode(x))
    monkeypatch.setattr(engines, "MOST", 2**20)
    ours.engine([[5 + i % 60 for i in range(299)] + [2]] * 4)
    heads = system.manifest.heads
    assert heads == 4 and all(count * heads * width**2 <= 2**20 for count, width in rows)
    assert sum(count for count, _ in rows) == 4


def test_model_with_teacher_counts_the_teachers_memory(exported, task, monkeypatch):
    name, folder = exported
    ours = runtime.load(folder, threads=1, rescore=True, **MANY[name])
    wide = replace(ours.manifest.scorer, ffn_dim=2**30)
    monkeypatch.setattr(ours.engine.scorer, "about", wide)
    with pytest.raises(UserError, match=r"needs .* GiB for one array.*: leave the sentence out"):
        ours.engine([[5, 6, 2]])


def test_sentences_that_are_too_many_are_encoded_apart(task, tmp_path, monkeypatch):
    """CTC's encoder also computes the distributions of all frames."""
    folder = export_model(tmp_path / "model", task, build(task, "nart_ctc_tiny"))
    ours, rows = runtime.load(folder, threads=1, ctc_beam=3), []
    sources, system = sources_of(task), ours.engine.system
    whole, encode = ours.engine(sources), system.encode
    monkeypatch.setattr(system, "encode", lambda x: rows.append(x.shape) or encode(x))
    limit = 3 * system.sentence_elements(max(map(len, sources)))
    monkeypatch.setattr(engines, "MOST", limit)
    require_equal(ours.engine(sources), whole)
    assert sum(count for count, _ in rows) == len(sources)
    assert all(count * system.sentence_elements(width) <= limit for count, width in rows)


def test_rescorer_helper_is_the_tasks_default(data, teacher):
    """So the comparisons of this folder concern what a user gets."""
    cfg, helper = load_task(data).cfg, rescorer(teacher)
    assert (str(cfg.rescore_normalization), cfg.rescore_alpha) == (helper.normalization, None)


def test_lattice_has_the_tuned_length(task, tmp_path):
    model = build(task, "nart_dcrf_tiny", "--length-predictor", "offset")
    folder = export_model(tmp_path / "model", task, model)
    line, lengths = "der mann liest .", []
    for offset in (0, 3):
        ours = runtime.load(folder, threads=1, length_offset=offset)
        lattice = ours.lattice(line)
        lengths.append(len(lattice.tokens))
        assert lattice.viterbi.text == ours.translate([line])[0]
    assert lengths[1] == lengths[0] + 3

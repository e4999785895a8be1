"""Exported in float32, every system says what the plugin says, with the same scores."""

import pytest
from exported import by_plugin, by_runtime, export_model, require_equal, sources_of
from fairseq.models import MODEL_REGISTRY
from toys import binarise, build, build_teacher, load_task, write_text

from fairseq_nart import runtime
from fairseq_nart.models._registry import SYSTEMS, decoding_kinds

LENGTHS = {"length_candidates": 9}
LATENTS = {"latent_samples": 3}
LONGER = {"length_offset": 2}
STOPS = ("equality", "jaccard", "unchanged")
CASES = {
    "nart": [
        ([], [{}, LENGTHS, {**LENGTHS, "dedup": True}, LONGER, {**LENGTHS, "length_offset": -9}]),
        (["--length-predictor", "offset", "--decoder-input", "hard_uniform"], [{}, LENGTHS]),
        (["--decoder-input", "soft_uniform", "--normalize-before"], [{}, LENGTHS]),
        (["--mask-self-attention-diagonal"], [{}, LENGTHS]),
        (["--embed-dim", "278", "--ffn-embed-dim", "507", "--attention-heads", "2"], [{}]),
    ],
    "nart_crf": [
        (["--crf-candidates", "7"], [{}, {**LENGTHS, "crf_paths": 4}, {"crf_paths": 4}]),
        (["--normalize-before", "--crf-candidates", "10000"], [{}]),
    ],
    "nart_dcrf": [
        (["--crf-candidates", "7"], [{}, {**LENGTHS, "crf_paths": 4}]),
        (["--decoder-input", "soft_uniform", "--mask-self-attention-diagonal"], [{}, LENGTHS]),
    ],
    "nart_ctc": [
        ([], [{}, {"ctc_beam": 5}, {"ctc_blank_bias": 1.5}]),
        (["--ctc-split", "2", "--normalize-before"], [{"ctc_beam": 3, "ctc_blank_bias": -2}]),
    ],
    "nart_dag": [
        ([], [{}, {"dag_search": "greedy"}, {"dag_search": "lookahead"}, {"dag_paths": 5}]),
        (["--dag-vertices", "2", "--normalize-before"], [{"dag_length_penalty": 0.3}]),
        (["--output", "crf"], [{}, {"dag_paths": 3, "crf_paths": 4}, {"crf_paths": 2}]),
        (["--output", "dcrf", "--crf-candidates", "7"], [{}, {"dag_search": "lookahead"}]),
    ],
    "nart_fertility": [
        ([], [{}, {"fertility_samples": 5}, {"fertility_decoding": "average", "dedup": True}]),
        (["--output", "crf"], [{}, {"fertility_samples": 5, "crf_paths": 4}]),
        (["--output", "dcrf"], [{"fertility_decoding": "average", "fertility_samples": 3}]),
    ],
    "nart_latent": [
        ([], [{}, {"latent_samples": 5, "dedup": True}]),
        (["--quantizer", "dvq", "--compression", "2"], [{}, {"latent_samples": 5}]),
    ],
    "nart_vqvae": [
        (["--latent-bits", "5"], [{}, {"latent_samples": 5}]),
        (["--compression", "2", "--normalize-before", "--predictor-layers", "1"], [LATENTS]),
    ],
    "nart_refinement": [
        ([], [LONGER, {**LENGTHS, "refinement_iterations": 3, "dedup": True}]),
        ([], [{"refinement_stop": stop, "length_candidates": 3} for stop in STOPS]),
        (["--output", "crf"], [{"refinement_iterations": 2, "crf_paths": 4}, LENGTHS]),
        (["--output", "dcrf"], [{"refinement_stop": "unchanged", "length_candidates": 3}]),
        (["--train-iterations", "1", "--decoder-input", "pad"], [{}, LENGTHS]),
    ],
    "nart_cmlm": [
        ([], [{}, {**LENGTHS, "refinement_iterations": 4}, {"refinement_iterations": 1}]),
        (["--normalize-before", "--length-predictor", "offset"], [{"dedup": True, **LONGER}]),
    ],
    "nart_enat_p": [
        ([], [{}, {**LENGTHS, "dedup": True}]),
        (["--length-predictor", "ratio", "--decoder-input", "soft_uniform"], [{}, LENGTHS]),
        (["--output", "dcrf", "--crf-candidates", "7"], [{**LENGTHS, "crf_paths": 4}]),
    ],
    "nart_enat_e": [
        ([], [{}, LENGTHS]),
        (["--length-predictor", "ratio", "--decoder-input", "soft_uniform"], [{}, LENGTHS]),
        (["--output", "crf", "--crf-candidates", "7"], [{**LENGTHS, "crf_paths": 4}]),
    ],
    "nart_reg": [([], [{}, LENGTHS]), (["--output", "crf"], [{"crf_paths": 4}])],
}


@pytest.fixture(scope="module")
def two_dictionaries(tmp_path_factory):
    """The task with a dictionary of its own for each side."""
    text = tmp_path_factory.mktemp("text")
    write_text(text, {"train": 200, "test": 17})
    return load_task(binarise(text, tmp_path_factory.mktemp("data") / "bin"))


def own_systems():
    """The registered systems of this package: tests register others."""
    names = decoding_kinds()
    return {x for x in names if MODEL_REGISTRY[SYSTEMS[x].model].__module__.startswith("fairseq_")}


def require_same(folder, task, model, teacher, options):
    sources = sources_of(task)
    for ranked in (None, teacher):
        ours = runtime.load(folder, threads=1, rescore=ranked is not None, **options)
        expected = by_plugin(model, sources, ranked, **options)
        for hypotheses in by_runtime(ours, sources):
            require_equal(hypotheses, expected)


def test_all_systems_are_compared():
    assert own_systems() == CASES.keys()


@pytest.mark.parametrize(
    "name, words, options",
    [(name, words, options) for name, cases in CASES.items() for words, options in cases],
)
def test_exported_system_equals_the_plugin(name, words, options, task, tmp_path):
    """Alone and in a batch, by its own scores and the teacher's."""
    model, teacher = build(task, f"{name}_tiny", *words), build_teacher(task, "transformer")
    folder = export_model(tmp_path / "model", task, model, teacher)
    for some in options:
        require_same(folder, task, model, teacher, some)


@pytest.mark.parametrize("name", CASES)
def test_exported_system_with_two_dictionaries_equals_the_plugin(name, two_dictionaries, tmp_path):
    task = two_dictionaries
    model, teacher = build(task, f"{name}_tiny"), build_teacher(task, "transformer")
    folder = export_model(tmp_path / "model", task, model, teacher)
    require_same(folder, task, model, teacher, {})


@pytest.mark.usefixtures("pack_small_layers")
@pytest.mark.parametrize("name", CASES)
def test_export_of_packed_layers_equals_the_plugin(name, task, tmp_path):
    """The plugin packs large layers before an export of their model."""
    expected = by_plugin(build(task, f"{name}_tiny"), sources_of(task))
    folder = export_model(tmp_path / "model", task, build(task, f"{name}_tiny"))
    for hypotheses in by_runtime(runtime.load(folder, threads=1), sources_of(task)):
        require_equal(hypotheses, expected)

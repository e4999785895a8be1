"""The plan of a benchmark: how it is read, and errors in it."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fairseq_nart.tools.benchmark.plan import read_plan
from fairseq_nart.tools.tune import Score

HEAD = """
binarised = "data"
[[test]]
name = "toy"
source = "test.de"
references = "test.en"
"""
SYSTEM = '[[system]]\nfamily = "NART"\ncheckpoint = "nart.pt"\n'
ONNX = 'engine = "onnx"\n'
SWEEP = '[[sweep]]\nsystem = "{}"\nparameter = "{}"\n{}\n'


@pytest.fixture
def plan(tmp_path):
    """Reads a plan from text. The files that it can name exist."""
    (tmp_path / "data").mkdir()
    for name in ("test.de", "test.en", "nart.pt", "teacher.pt", "k8.pt", "k16.pt"):
        (tmp_path / name).touch()

    def read(text, skip_missing=False):
        file = tmp_path / "plan.toml"
        file.write_text(HEAD + text)
        return read_plan(file, tmp_path, skip_missing)

    return read


def test_vocabulary_hash_covers_dictionaries_and_sentencepiece(plan, tmp_path):
    hashes = []
    for name, text in (("data/dict.de.txt", "a 1"), ("data/dict.en.txt", "b 1"), ("spm", "c")):
        (tmp_path / name).write_text(text)
        hashes.append(plan(SYSTEM).vocabulary_sha256)
    read = replace(plan(SYSTEM), sentencepiece=tmp_path / "spm")
    assert len({*hashes, read.vocabulary_sha256}) == 3  # the plan as it stands names no `spm`


def test_list_gives_one_system_per_value(plan):
    systems = plan(SYSTEM + 'length_candidates = [1, 9]\nrescore_with = "teacher.pt"').systems
    assert [system.name for system in systems] == ["NART, 1 length", "NART, 9 lengths"]
    one, nine = (system.words for system in systems)
    assert one == ["--length-candidates", "1"]  # a single candidate is not ranked
    assert nine[:3] == ["--length-candidates", "9", "--rescore-with"]
    assert nine[3].endswith("/teacher.pt")


def test_names_are_distinct(plan):
    text = SYSTEM + 'engine = "ctranslate2"\nprecision = ["float32", "int8"]\nbeam = [4, 1]\n'
    text += SYSTEM + 'precision = "bfloat16"\nlenpen = [1, 2]\ndedup = true\n'
    text += SYSTEM + 'name = "Mine"\nbeam = 4\n'
    expected = [
        *(
            f"NART, {search}, CTranslate2 {precision}"
            for precision, search in itertools.product(("float32", "int8"), ("beam 4", "greedy"))
        ),
        "NART, lenpen 1, bfloat16",
        "NART, lenpen 2, bfloat16",
        "Mine",
    ]
    read = plan(text)
    assert [system.name for system in read.systems] == expected
    assert read.systems[4].words == ["--lenpen", "1", "--dedup"]


def test_list_of_checkpoints(plan, capsys):
    text = SYSTEM.replace('"nart.pt"', '["nart.pt", "none.pt", "k8.pt"]')
    systems = plan(text, skip_missing=True).systems
    assert [system.name for system in systems] == ["NART, nart", "NART, k8"]
    assert "NART, none is left out: " in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no system below .* can be measured"):
        plan(SYSTEM.replace("nart.pt", "none.pt"), skip_missing=True)


def test_single_candidate_is_listed_once(plan):
    text = SYSTEM + 'length_candidates = [1, 9]\nrescore_with = "nart.pt"\nrescore_alpha = [1, 2]\n'
    names = [system.name for system in plan(text).systems]
    assert names == [
        "NART, 1 length",
        "NART, 9 lengths, rescore_alpha 1",
        "NART, 9 lengths, rescore_alpha 2",
    ]
    text = SYSTEM + 'length_candidates = 1\ncrf_paths = [1, 9]\nrescore_with = "nart.pt"\n'
    systems = plan(text).systems
    assert [system.name for system in systems] == [
        "NART, 1 length, 1 path",
        "NART, 1 length, 9 paths",
    ]
    assert ["rescore_with" in system.options for system in systems] == [False, True]


def test_options_of_one_engine_are_named(plan):
    text = SYSTEM + 'engine = "ctranslate2"\nbeam = 4\nvocabulary_map = [false, true]\n'
    text += SYSTEM + ONNX + 'precision = ["float32", "int8"]\nlength_candidates = [1, 9]\n'
    text += 'rescore_with = "teacher.pt"\nrescore_best = [false, 3]\n'
    text += '[lengths]\nsystems = ["NART, 1 length, ONNX int8"]\n'
    read = plan(text)
    assert [system.name for system in read.systems] == [
        "NART, beam 4, CTranslate2 float32",
        "NART, beam 4, vocabulary map, CTranslate2 float32",
        *(
            f"NART, {what}, ONNX {precision}"
            for precision in ("float32", "int8")
            for what in ("1 length", "9 lengths", "9 lengths, best 3 rescored")
        ),
    ]
    assert "vocabulary_map" not in read.systems[0].options
    assert read.lengths.tokens == [10, 20, 40, 80]


def test_sweep_keeps_overrides_of_the_system(plan):
    text = SYSTEM + "model_overrides = \"{'crf_rank': 8}\"\n"
    text += '[[sweep]]\nsystem = "NART"\nparameter = "crf_candidates"\nvalues = [4]\n'
    read = plan(text)
    ((_, system),) = read.swept(read.sweeps[0])
    assert system.words == ["--model-overrides", "{'crf_rank': 8, 'crf_candidates': 4}"]


def test_sweep_changes_one_parameter(plan):
    text = SYSTEM + '[[sweep]]\nsystem = "NART"\nparameter = "crf_candidates"\nvalues = [1, 4]\n'
    text += '[[sweep]]\nsystem = "NART"\nparameter = "crf_rank"\n'
    text += 'checkpoints = {8 = "k8.pt", 16 = "k16.pt"}\n'
    read = plan(text)
    decoding, trained = (list(read.swept(sweep)) for sweep in read.sweeps)
    assert [value for value, _ in decoding] == [1, 4]
    assert decoding[1][1].words == ["--model-overrides", "{'crf_candidates': 4}"]
    assert [(value, system.checkpoint.name) for value, system in trained] == [
        (8, "k8.pt"),
        (16, "k16.pt"),
    ]


def test_tuned_rule_is_read_from_tune(plan, tmp_path, capsys):
    text = SYSTEM + 'length_candidates = [1, 9]\nrescore_with = "teacher.pt"\ntuned = "tune"\n'
    assert plan(SYSTEM + "beam = 3\n" + text, skip_missing=True).systems[0].options == {"beam": 3}
    assert capsys.readouterr().out.count("is left out: ") == 2
    reward = {"rescore_normalization": "reward", "rescore_alpha": 2.25}
    for options in (reward, {"rescore_normalization": "mean"}, {"length_offset": -1}):
        best = Score(options, 39.8, 0.98).words()
        (tmp_path / "tune").write_text(f"| options |\n\nbest: {best} (BLEU 39.80)\n")
        one, nine = plan(text).systems
        assert one.options == {"length_candidates": 1}
        assert nine.options.items() >= options.items() and " ".join(nine.words).endswith(best)
    (tmp_path / "tune").write_text("cut")
    with pytest.raises(ValueError, match="is not the output of `fairseq-nart tune`"):
        plan(text)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "system is missing"),
        ("[[systems]]\n" + SYSTEM, "unknown key 'systems'"),
        (SYSTEM.replace("nart.pt", "none.pt"), "none.pt does not exist"),
        (SYSTEM + 'rescore_with = "none.pt"', "none.pt does not exist"),
        (SYSTEM + SYSTEM, "two [[system]] are called 'NART'"),
        (SYSTEM + 'precision = "int16"', "fairseq supports float32"),
        (SYSTEM + 'precision = "int8"', 'set engine = "ctranslate2" or engine = "onnx"'),
        (SYSTEM + 'engine = "marian"', "field 'engine'"),
        (SYSTEM + 'engine = "ctranslate2"\ndedup = true', "not 'dedup'"),
        (SYSTEM + "vocabulary_map = true", "vocabulary_map needs engine ctranslate2"),
        (SYSTEM + ONNX + 'precision = "bfloat16"', "onnx supports float32, int8"),
        (SYSTEM + ONNX + "beam = 4", "engine onnx supports decoding options"),
        (SYSTEM + ONNX + "rescore_best = 3", "rescore_best needs engine onnx, rescore_with"),
        (
            SYSTEM + 'length_candidates = 9\nrescore_with = "teacher.pt"\nrescore_best = 3',
            "rescore_best needs engine onnx, rescore_with",
        ),
        (
            SYSTEM + ONNX + SWEEP.format("NART, ONNX float32", "crf_candidates", "values = [4]"),
            "engine onnx cannot vary crf_candidates",
        ),
        (SYSTEM + '[lengths]\nsystems = ["CRF"]', "[lengths]: no system is called 'CRF'"),
        (SYSTEM + '[lengths]\nsystems = ["NART"]\ntokens = [0]', "tokens must be at least 1"),
        (SYSTEM + '[[lengths]]\nsystems = ["NART"]', "write [lengths], in single brackets"),
        (SYSTEM + "threads = 0", "threads must be at least 1"),
        (SYSTEM + 'name = "x"\nbeam = [1, 4]', "leave out name, because beam is a list"),
        (SYSTEM + SWEEP.format("x", "crf_candidates", "values = [1]"), "no system is called 'x'"),
        (
            SYSTEM + SWEEP.format("NART", "crf_rank", 'checkpoints = {a = "k8.pt"}'),
            "'a' is not a number",
        ),
        ("[system]\nfamily = 'NART'", "write [[system]], in double brackets, before each system"),
        ("[[system]]\nfamily = 'NART'", "[[system]] NART: checkpoint is missing"),
        (SYSTEM.replace('"nart.pt"', '["nart.pt", "none.pt"]'), "none.pt does not exist"),
        ("= 3", "plan.toml"),
    ],
)
def test_errors_are_reported(plan, text, message):
    with pytest.raises(ValueError) as error:
        plan(text)
    assert message in str(error.value) and "plan.toml" in str(error.value)


def test_missing_checkpoints_can_be_skipped(plan, capsys):
    missing = '[[system]]\nfamily = "CRF"\ncheckpoint = "none.pt"\n'
    trained = 'checkpoints = {8 = "none.pt", 16 = "k16.pt"}'
    text = missing + SWEEP.format("NART", "crf_rank", trained)
    text += SWEEP.format("NART", "crf_rank", 'checkpoints = {8 = "none.pt"}')
    text += SWEEP.format("CRF", "crf_candidates", "values = [1]")
    read = plan(SYSTEM + text, skip_missing=True)
    assert [system.name for system in read.systems] == ["NART"]
    assert [list(sweep.checkpoints) for sweep in read.sweeps] == [["16"]]
    read = plan(SYSTEM + missing + '[lengths]\nsystems = ["CRF", "NART"]\n', skip_missing=True)
    assert read.lengths.systems == ["NART"]
    assert "CRF is left out: " in capsys.readouterr().out


def test_missing_test_set_is_reported(plan, tmp_path):
    (tmp_path / "test.en").unlink()
    with pytest.raises(ValueError, match=r"references: .*test\.en does not exist"):
        plan(SYSTEM)


def test_documented_plan_is_valid(tmp_path):
    page = Path(__file__).parents[2] / "docs/benchmark.md"
    (text,) = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.S)
    for name in re.findall(r'"([\w/.]+\.\w+|DATA)"', text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    file = tmp_path / "plan.toml"
    file.write_text(text)
    plan = read_plan(file, tmp_path)
    assert len(plan.lengths.systems) == 2
    assert len(plan.systems) == 2 + 8 + 3 + 6 and len(list(plan.swept(plan.sweeps[0]))) == 8


def test_plan_of_the_recipe_is_valid(tmp_path):
    """With all checkpoints: its table [lengths] and its sweeps name existing systems."""
    recipe = Path(__file__).parents[2] / "examples/recipes/multi30k_de_en.bench.toml"
    text = recipe.read_text("utf-8")
    for name in re.findall(r'"([\w/]+\.[\w.]+|tune/\w+|data)"', text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("best: --rescore-normalization mean (BLEU 1.00)\n")
    plan = read_plan(recipe, tmp_path)
    assert len(plan.lengths.systems) == 7 and len(plan.sweeps) == 3

"""Inputs of recipes: variables, folders and programs, all checked before anything runs."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fairseq.models import ARCH_MODEL_REGISTRY
from recipes import EXAMPLES, RECIPES, write_raw_text

from fairseq_nart.models._registry import SIZES

OWN = {"TEXT": "text", "SRC": "de", "TGT": "en"}


@pytest.fixture
def refusal(run_recipe, tmp_path):
    """Runs steps that must fail with one line and without any command; returns the line."""

    def run(words: str, **variables: str) -> str:
        status, commands = run_recipe(words, **variables)
        error = (tmp_path / "stderr").read_text()
        assert status == 1 and not commands and error.count("\n") == 1, error
        return error

    return run


@pytest.mark.parametrize(
    "given, message",
    [
        ({"TEXT": "gone"}, "/gone, which should hold the text, is not a folder"),
        ({"TEXT": ""}, "set TEXT to the folder with the text"),
        ({"N": "many"}, "N=many: it must be a whole number, at least 1"),
        ({"N": "1.5"}, "N=1.5: it must be a whole number"),
        ({"N": "08"}, "N=08: it must be a whole number"),
        ({"N": "1"}, "N=1: it must be at least 2"),
        ({"TOKENS": "4,096"}, "TOKENS=4,096: it must be a whole number"),
        ({"PIECES": "0"}, "PIECES=0: it must be a whole number, at least 1"),
        ({"TEACHER_UPDATES": "-1"}, "TEACHER_UPDATES=-1: it must be a whole number"),
        ({"SEED": "x"}, "SEED=x: it must be a whole number, at least 0"),
        ({"GPUS": "all"}, "GPUS=all: it must be a whole number, at least 0"),
        ({"PRECISION": "bf16"}, "PRECISION=bf16: it must be --bf16, --fp16 or empty"),
        ({"SIZE": "huge"}, "SIZE=huge: it must be tiny, cpu, small, base, iwslt16 or wmt16"),
        ({"SYSTEMS": "nart nart_dcfr"}, "nart_dcfr is not a system that starts from NART"),
        ({"TOKENIZE": "jap"}, "TOKENIZE=jap: it must be one of none, zh, 13a"),
        ({"SRC": ""}, "set SRC: examples/run.sh own_text --help describes it"),
        ({"SRC": "en"}, "SRC and TGT are both en"),
        ({"SRC": "a/de"}, "an ending must not contain a slash"),
        ({"NART_RUNS": "my,runs"}, "my,runs: fairseq cannot read a path with a colon or comma"),
        ({"NART_RUNS": "my:runs"}, "my:runs: fairseq cannot read a path with a colon or comma"),
    ],
)
def test_invalid_variables_are_refused_at_the_start(given, message, refusal, tmp_path):
    assert message in refusal("own_text prepare", **{**OWN, **given})
    run = tmp_path / "runs" / "own_text"
    assert not run.exists() or not list(run.iterdir())


def test_tokenizer_that_is_not_installed_is_refused(refusal, tmp_path, monkeypatch):
    (tmp_path / "MeCab.py").write_text("raise ImportError('as where it is not installed')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    error = refusal("own_text prepare", **OWN, TOKENIZE="ja-mecab")
    assert "TOKENIZE=ja-mecab: " in error and "pip install sacrebleu[ja]" in error


def test_allowed_names_are_registered(run_recipe):
    for size in SIZES:
        assert run_recipe("own_text teacher", **OWN, SIZE=size, NART_RUNS=size)[0] == 0
    for system in ("nart", "nart_crf", "nart_dcrf", "nart_refinement", "nart_cmlm", "nart_reg"):
        assert f"{system}_cpu" in ARCH_MODEL_REGISTRY
        assert run_recipe("own_text teacher", **OWN, SYSTEMS=system)[0] == 0


def test_unknown_direction_is_refused(refusal):
    for recipe, languages in (
        ("multi30k_de_en", "de or en"),
        ("wmt14_en_de", "en or de"),
        ("iwslt16_en_de", "en or de"),
        ("wmt16_en_ro", "en or ro"),
    ):
        error = refusal(f"{recipe} prepare", **{RECIPES[recipe][0]: "text"}, SRC="fr")
        assert f"SRC=fr: it must be {languages}" in error


@pytest.mark.parametrize("recipe", ["wmt14_en_de", "wmt16_en_ro", "iwslt16_en_de"])
def test_other_direction_has_its_own_run(recipe, run_recipe, tmp_path):
    variable, _, (source, target) = RECIPES[recipe]
    status, (command, *_) = run_recipe(f"{recipe} teacher", **{variable: "text"}, SRC=target)
    assert status == 0
    pair = [command[command.index(f"--{side}-lang") + 1] for side in ("source", "target")]
    assert pair == [target, source]
    run = recipe.replace(f"{source}_{target}", f"{target}_{source}")
    assert command[command.index("--save-dir") + 1] == f"{tmp_path}/runs/{run}/teacher"


def test_unknown_change_of_diacritics_is_refused(refusal):
    error = refusal("wmt16_en_ro prepare", WMT16="text", DIACRITICS="drop")
    assert "DIACRITICS=drop: it must be keep, normalise or remove" in error


@pytest.mark.parametrize(
    "step", ["ablations", "fertility", "one_pass", "one_pass_systems", "sweep", "table2"]
)
def test_too_few_updates_are_refused(step, refusal, run_recipe):
    """A sixth of 5 is 0, which means no limit to fairseq."""
    given = {"MULTI30K": "text", "N": "5"}
    assert f"N=5: {step} needs at least 6" in refusal(f"multi30k_de_en teacher {step}", **given)
    assert run_recipe("multi30k_de_en teacher students", **given)[0] == 0


@pytest.mark.parametrize(
    "step", ["ablations", "fertility", "one_pass", "one_pass_systems", "sweep"]
)
def test_smallest_number_of_updates(step, run_recipe):
    _, commands = run_recipe(f"multi30k_de_en {step}", MULTI30K="text", N="6")
    trained = [c for c in commands if c[0] == "fairseq-train"]
    assert "1" in {c[c.index("--max-update") + 1] for c in trained}
    assert "0" not in {c[c.index("--max-update") + 1] for c in trained}


@pytest.mark.parametrize("step", ["bench", "table2"])
def test_steps_for_one_direction_refuse_the_other(step, refusal):
    error = refusal(f"multi30k_de_en prepare {step}", MULTI30K="text", SRC="en")
    assert f"SRC=en: {step} is for German-English" in error


def test_tokenised_bleu_without_sacremoses_is_refused(refusal, tmp_path):
    (tmp_path / "bin" / "sacremoses").unlink()
    error = refusal("wmt14_en_de evaluate tokenised_bleu", WMT14="text")
    assert "pip install sacremoses" in error


def test_incomplete_teacher_folder_is_refused(refusal, tmp_path):
    folder = tmp_path / "teacher"
    for name in ("teacher.pt", "dict.txt", "sentencepiece.model"):
        error = refusal("multi30k_de_en prepare", MULTI30K="text", TEACHER="teacher")
        assert f"TEACHER={folder} holds no {name}" in error
        folder.mkdir(exist_ok=True)
        (folder / name).touch()


def test_python_of_another_environment_is_refused(refusal, tmp_path):
    other = tmp_path / "bin" / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without its packages
    other.chmod(0o755)
    error = refusal("own_text prepare", **OWN, PYTHONPATH="")
    assert "python cannot import" in error and "activate the environment" in error


def test_missing_program_is_reported(refusal, tmp_path):
    (tmp_path / "some").mkdir()
    for name in ("bash", "dirname", "realpath", "env", "sed", "expand"):
        (tmp_path / "some" / name).symlink_to(f"/usr/bin/{name}")
    error = refusal("own_text prepare", **OWN, PATH=f"{tmp_path}/some:{tmp_path}/bin")
    assert "python is not installed" in error or "flock is not installed" in error


@pytest.mark.parametrize("recipe", RECIPES)
def test_folders_are_relative_to_the_callers_folder(recipe, run_recipe, tmp_path):
    variable = RECIPES[recipe][0]
    given = {"SRC": "de", "TGT": "en"} if recipe == "own_text" else {}
    status, commands = run_recipe(
        f"{recipe} teacher", **{variable: "text"}, **given, NART_RUNS="mine"
    )
    assert status == 0
    save = commands[0][commands[0].index("--save-dir") + 1]
    assert save == f"{tmp_path}/mine/{recipe}/teacher"
    settings = (tmp_path / "mine" / recipe / "settings").read_text()
    assert f"{variable}={tmp_path}/text\n" in settings


@pytest.mark.parametrize("folder", ["text", "data", "data/raw", "distilled", "."])
@pytest.mark.parametrize("by_link", [False, True])
def test_text_in_the_folder_of_the_run_is_refused(folder, by_link, refusal, tmp_path):
    """It would be overwritten or deleted there."""
    inside = tmp_path / "runs/own_text" / folder
    (inside if folder == "." else inside.parent).mkdir(parents=True, exist_ok=True)
    given = write_raw_text(inside, "own_text") if folder != "." else {**OWN, "TEXT": str(inside)}
    if by_link:
        (tmp_path / "link").symlink_to(inside)
        given["TEXT"] = "link"
    before = sorted(inside.iterdir())
    assert "lies in" in refusal("own_text prepare", **given)
    assert sorted(inside.iterdir()) == before


def test_folder_with_other_files_is_refused(refusal, tmp_path):
    data = tmp_path / "runs" / "own_text" / "data"
    data.mkdir(parents=True)
    (data / "mine").touch()
    assert "own_text holds files that no recipe wrote" in refusal("own_text prepare", **OWN)
    assert (data / "mine").exists()


@pytest.mark.parametrize("words", ["own_text teacher", "own_text"])
def test_second_recipe_in_a_run_is_refused(words, refusal, run_recipe, tmp_path):
    run = tmp_path / "runs" / "own_text"
    run.mkdir(parents=True)
    folder = os.open(run, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert f"another recipe uses {run}" in refusal(words, **OWN)
    os.close(folder)
    assert run_recipe("own_text teacher", **OWN)[0] == 0


def test_training_of_a_killed_script_keeps_the_lock(refusal, tmp_path):
    program, started = tmp_path / "bin" / "fairseq-train", tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {started}\nsleep 60\n")
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **OWN, "PATH": path, "GPUS": "0", "NART_RUNS": "runs"}
    command = [EXAMPLES / "run.sh", "own_text", "teacher"]
    script = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True)
    while not started.exists():
        assert script.poll() is None
        time.sleep(0.05)
    script.kill()
    script.wait()
    assert "another recipe uses" in refusal("own_text teacher", **OWN)
    os.killpg(script.pid, signal.SIGKILL)


def test_language_with_a_dot(run_recipe, tmp_path):
    write_raw_text(tmp_path / "raw", "own_text")
    for file in (tmp_path / "raw").iterdir():
        split, language, _ = file.name.split(".")
        file.rename(file.with_name(f"{split}.tok.{language}.gz"))
    given = {"TEXT": "raw", "SRC": "tok.de", "TGT": "tok.en", "PIECES": "90"}
    status, commands = run_recipe("own_text prepare", **given)
    text = tmp_path / "runs" / "own_text" / "text"
    assert status == 0 and (text / "test.raw.tok.de").exists()
    assert commands[0][commands[0].index("--testpref") + 1] == str(text / "test")
    assert Path(f"{text}/test.tok.de").read_text().count("\n") == 2

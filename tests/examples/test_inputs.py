"""What recipes are given from outside, and what they refuse before they do anything."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fairseq.models import ARCH_MODEL_REGISTRY
from recipes import EXAMPLES, RECIPES, raw_text

from fairseq_nart.models._registry import SIZES

OWN = {"TEXT": "text", "SRC": "de", "TGT": "en"}


@pytest.fixture
def refused(play, tmp_path):
    """Runs steps that must do nothing but print one line; returns the line."""

    def run(words: str, **variables: str) -> str:
        status, commands = play(words, **variables)
        said = (tmp_path / "said").read_text()
        assert status == 1 and not commands and said.count("\n") == 1, said
        return said

    return run


@pytest.mark.parametrize(
    "given, named",
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
        ({"SIZE": "huge"}, "SIZE=huge: it must be tiny, cpu, small or base"),
        ({"SYSTEMS": "nart nart_dcfr"}, "there is no nart_dcfr that starts from NART"),
        ({"TOKENIZE": "jap"}, "TOKENIZE=jap: it must be one of none, zh, 13a"),
        ({"SRC": ""}, "set SRC: examples/run.sh own_text --help describes it"),
        ({"SRC": "en"}, "SRC and TGT are both en"),
        ({"SRC": "a/de"}, "an ending must not contain a slash"),
        ({"NART_RUNS": "my,runs"}, "my,runs: fairseq reads no path with a colon or comma"),
        ({"NART_RUNS": "my:runs"}, "my:runs: fairseq reads no path with a colon or comma"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(given, named, refused, tmp_path):
    assert named in refused("own_text prepare", **{**OWN, **given})
    made = tmp_path / "runs" / "own_text"
    assert not made.exists() or not list(made.iterdir())


def test_tokens_that_need_what_is_not_installed(refused, tmp_path, monkeypatch):
    (tmp_path / "MeCab.py").write_text("raise ImportError('as where it is not installed')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    said = refused("own_text prepare", **OWN, TOKENIZE="ja-mecab")
    assert "TOKENIZE=ja-mecab: " in said and "pip install sacrebleu[ja]" in said


def test_names_that_are_allowed_are_registered(play):
    for size in SIZES:
        assert play("own_text teacher", **OWN, SIZE=size, NART_RUNS=size)[0] == 0
    for system in ("nart", "nart_crf", "nart_dcrf", "nart_refinement", "nart_cmlm"):
        assert f"{system}_cpu" in ARCH_MODEL_REGISTRY
        assert play("own_text teacher", **OWN, SYSTEMS=system)[0] == 0


def test_a_direction_that_multi30k_does_not_have(refused):
    assert "SRC=fr: it must be de or en" in refused(
        "multi30k_de_en prepare", MULTI30K="text", SRC="fr"
    )


@pytest.mark.parametrize("step", ["ablations", "fertility", "sweep", "table2"])
def test_so_few_updates_that_a_sixth_is_none(step, refused, play):
    """For fairseq, 0 updates are no limit."""
    given = {"MULTI30K": "text", "N": "5"}
    assert f"N=5: {step} needs at least 6" in refused(f"multi30k_de_en teacher {step}", **given)
    assert play("multi30k_de_en teacher students", **given)[0] == 0


@pytest.mark.parametrize("step", ["ablations", "fertility", "sweep"])
def test_the_smallest_number_of_updates(step, play):
    _, commands = play(f"multi30k_de_en {step}", MULTI30K="text", N="6")
    trained = [c for c in commands if c[0] == "fairseq-train"]
    assert "1" in {c[c.index("--max-update") + 1] for c in trained}
    assert "0" not in {c[c.index("--max-update") + 1] for c in trained}


@pytest.mark.parametrize("step", ["bench", "table2"])
def test_steps_for_one_direction(step, refused):
    said = refused(f"multi30k_de_en prepare {step}", MULTI30K="text", SRC="en")
    assert f"SRC=en: {step} is for German-English" in said


def test_tokenised_bleu_without_its_tokeniser(refused, tmp_path):
    (tmp_path / "bin" / "sacremoses").unlink()
    said = refused("wmt14_en_de evaluate tokenised_bleu", WMT14="text")
    assert "pip install sacremoses" in said


def test_a_teacher_without_its_files(refused, tmp_path):
    folder = tmp_path / "teacher"
    for name in ("teacher.pt", "dict.txt", "sentencepiece.model"):
        said = refused("multi30k_de_en prepare", MULTI30K="text", TEACHER="teacher")
        assert f"TEACHER={folder} holds no {name}" in said
        folder.mkdir(exist_ok=True)
        (folder / name).touch()


def test_a_python_of_another_environment(refused, tmp_path):
    other = tmp_path / "bin" / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without its packages
    other.chmod(0o755)
    said = refused("own_text prepare", **OWN, PYTHONPATH="")
    assert "python cannot import" in said and "activate the environment" in said


def test_a_missing_program_is_named(refused, tmp_path):
    (tmp_path / "some").mkdir()
    for name in ("bash", "dirname", "realpath", "env", "sed", "expand"):
        (tmp_path / "some" / name).symlink_to(f"/usr/bin/{name}")
    said = refused("own_text prepare", **OWN, PATH=f"{tmp_path}/some:{tmp_path}/bin")
    assert "python is not installed" in said or "flock is not installed" in said


@pytest.mark.parametrize("recipe", RECIPES)
def test_relative_folders_start_from_where_the_script_is_called(recipe, play, tmp_path):
    variable = RECIPES[recipe][0]
    given = {"SRC": "de", "TGT": "en"} if recipe == "own_text" else {}
    status, commands = play(f"{recipe} teacher", **{variable: "text"}, **given, NART_RUNS="mine")
    assert status == 0
    save = commands[0][commands[0].index("--save-dir") + 1]
    assert save == f"{tmp_path}/mine/{recipe}/teacher"
    settings = (tmp_path / "mine" / recipe / "settings").read_text()
    assert f"{variable}={tmp_path}/text\n" in settings


@pytest.mark.parametrize("folder", ["text", "data", "data/raw", "distilled", "."])
@pytest.mark.parametrize("by_link", [False, True])
def test_text_in_the_folder_of_the_run_is_left_alone(folder, by_link, refused, tmp_path):
    """It would be overwritten or deleted there."""
    inside = tmp_path / "runs/own_text" / folder
    (inside if folder == "." else inside.parent).mkdir(parents=True, exist_ok=True)
    given = raw_text(inside, "own_text") if folder != "." else {**OWN, "TEXT": str(inside)}
    if by_link:
        (tmp_path / "link").symlink_to(inside)
        given["TEXT"] = "link"
    before = sorted(inside.iterdir())
    assert "lies in" in refused("own_text prepare", **given)
    assert sorted(inside.iterdir()) == before


def test_a_folder_with_other_files_is_no_run(refused, tmp_path):
    data = tmp_path / "runs" / "own_text" / "data"
    data.mkdir(parents=True)
    (data / "mine").touch()
    assert "own_text holds files that no recipe wrote" in refused("own_text prepare", **OWN)
    assert (data / "mine").exists()


@pytest.mark.parametrize("words", ["own_text teacher", "own_text"])
def test_two_recipes_at_once_in_one_run(words, refused, play, tmp_path):
    run = tmp_path / "runs" / "own_text"
    run.mkdir(parents=True)
    folder = os.open(run, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert f"another recipe uses {run}" in refused(words, **OWN)
    os.close(folder)
    assert play("own_text teacher", **OWN)[0] == 0


def test_a_training_that_has_lost_its_script_holds_the_run(refused, tmp_path):
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
    assert "another recipe uses" in refused("own_text teacher", **OWN)
    os.killpg(script.pid, signal.SIGKILL)


def test_an_ending_with_a_dot(play, tmp_path):
    raw_text(tmp_path / "raw", "own_text")
    for file in (tmp_path / "raw").iterdir():
        split, language, _ = file.name.split(".")
        file.rename(file.with_name(f"{split}.tok.{language}.gz"))
    given = {"TEXT": "raw", "SRC": "tok.de", "TGT": "tok.en", "PIECES": "90"}
    status, commands = play("own_text prepare", **given)
    text = tmp_path / "runs" / "own_text" / "text"
    assert status == 0 and (text / "test.raw.tok.de").exists()
    assert commands[0][commands[0].index("--testpref") + 1] == str(text / "test")
    assert Path(f"{text}/test.tok.de").read_text().count("\n") == 2

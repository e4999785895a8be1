"""The steps of the recipes for systems that decode in one pass without a teacher."""

from pathlib import Path

import pytest
from recipes import RECIPES, parsed


def value(command, option):
    """What follows `option`."""
    return command[command.index(option) + 1]


def names(commands, program, option):
    """The file names that the commands of `program` give to `option`."""
    return [Path(value(c, option)).name for c in commands if c[: len(program)] == program]


@pytest.mark.parametrize("variables", RECIPES, indirect=True)
def test_ctc_learns_from_two_teachers_together(variables, run_recipe, tmp_path):
    recipe, given = variables
    status, commands = run_recipe(f"{recipe} one_pass", **given)
    assert status == 0
    (run,) = (tmp_path / "runs").iterdir()
    distill = next(c for c in commands if c[:2] == ["fairseq-nart", "distill"])
    assert value(distill, "--path") == f"{run}/teacher.pt:{run}/teacher_lstm.pt"
    assert value(distill, "--lenpen") == "auto"
    lstm, ctc, consistent, nmla = (c for c in commands if c[0] == "fairseq-train")
    assert (lstm[1], ctc[1]) == (f"{run}/data", f"{run}/distilled.ensemble")
    assert "_lstm_" in value(lstm, "--arch") and "nart_ctc_" in value(ctc, "--arch")
    assert value(ctc, "--init-from") == f"{run}/teacher.pt"
    assert value(consistent, "--init-from") == f"{run}/nart_ctc.ensemble.pt"
    assert parsed(consistent).lr == [5e-4] and parsed(nmla).lr == [3e-4]
    assert value(nmla, "--init-from") == f"{run}/nart_ctc.ensemble.cr.pt" and "nmla" in nmla
    updates = [int(value(c, "--max-update")) for c in (ctc, consistent, nmla)]
    assert updates[1:] == [updates[0] // 2, updates[0] // 6]
    tests = {"multi30k_de_en": 3, "own_text": 2}.get(recipe, 1)
    translated = [c for c in commands if c[0] == "fairseq-generate"]
    assert len(translated) == 2 * tests and not any("--rescore-with" in c for c in commands)
    assert sum("--rescore-alpha" in c for c in translated) == tests, "what tune printed"


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_other_systems_learn_from_the_same_text(variables, run_recipe, tmp_path):
    recipe, given = variables
    run = tmp_path / "runs" / recipe
    for step in ("one_pass", "one_pass_systems"):
        status, commands = run_recipe(f"{recipe} {step}", **given, N="60")
        assert status == 0
    trained = [c for c in commands if c[0] == "fairseq-train"]
    assert {c[1] for c in trained} == {f"{run}/distilled.ensemble"}
    assert [(Path(value(c, "--save-dir")).name, value(c, "--max-update")) for c in trained] == [
        ("nart.ensemble", "30"),
        ("nart_dcrf.ensemble", "30"),
        ("nart_dcrf.shallow", "30"),
        ("nart_ctc.glancing", "60"),
        ("nart_ctc.ensemble.nmla", "10"),
    ]
    nart, ctc = "nart.ensemble.pt", "nart_ctc.ensemble.pt"
    starts = ["teacher.pt", nart, nart, "teacher.pt", ctc]
    assert names(commands, ["fairseq-train"], "--init-from") == starts
    assert [c[-2:] for c in trained][2:] == [
        ["--decoder-layers", "2"],
        ["2", "--glancing"],
        ["--ctc-loss", "nmla"],
    ]
    tuned = [
        "nart_dcrf.ensemble",
        "nart_dcrf.shallow",
        "nart_ctc.glancing",
        "nart_ctc.ensemble.nmla",
    ]
    assert names(commands, ["fairseq-nart", "tune"], "--path") == [f"{name}.pt" for name in tuned]
    status, commands = run_recipe(f"{recipe} one_pass_rivals", **given, N="60")
    trained = [c for c in commands if c[0] == "fairseq-train"]
    assert {c[1] for c in trained} == {f"{run}/distilled.ensemble"}
    assert all("--eval-bleu" in c for c in trained)
    archs = ["nart_teacher_cpu", "nart_teacher_deep_cpu"]
    assert names(commands, ["fairseq-train"], "--arch") == archs

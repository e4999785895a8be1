"""Translations that recipes read from a log: their order, completeness and any bytes."""

import sys

import pytest
from recipes import run_steps


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_translations_have_the_order_of_the_text(variables, run_recipe, tmp_path):
    recipe, given = variables
    run_steps(run_recipe, recipe, given, ("evaluate",))
    out = tmp_path / "runs" / recipe / "out"
    assert (out / "test2017" / "nart_dcrf.19").read_text() == "a\nb\n"


def stand_in(tmp_path, name, line):
    """Writes a program that only runs `line`, in Python."""
    (tmp_path / "bin" / name).write_text(f"#!{sys.executable}\nimport sys\n{line}\n")


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_translations_can_hold_any_bytes(variables, run_recipe, tmp_path):
    """grep regards a log with NUL or invalid UTF-8 as binary."""
    recipe, given = variables
    log = b"I-0\t3\nI-1\t4\nH-1\t-0.1\tb\xff\nH-0\t-0.1\ta\0a\n"
    stand_in(tmp_path, "fairseq-generate", f"sys.stdout.buffer.write({log})")
    run_steps(run_recipe, recipe, given, ("evaluate",))
    for name in ("teacher", "nart.1"):
        file = tmp_path / "runs" / recipe / "out" / "valid" / name
        assert file.read_bytes() == b"a\0a\nb\xff\n"
    assert run_recipe(f"{recipe} refinement", **given)[0] == 0
    assert "valid, jaccard: 3.5 iterations" in (tmp_path / "stdout").read_text()


@pytest.mark.parametrize("variables", ["own_text"], indirect=True)
def test_incomplete_translation_is_repeated_or_refused(variables, run_recipe, tmp_path):
    recipe, given = variables
    run_steps(run_recipe, recipe, given, ("evaluate",))
    out = tmp_path / "runs" / recipe / "out" / "test"
    out.joinpath("nart.1").write_text("")  # as an older version left it
    out.parent.parent.joinpath("tune/nart").write_text("")
    again = run_steps(run_recipe, recipe, given, ("evaluate",))
    assert sum(command[0] == "fairseq-generate" for command in again) == 1
    assert sum(command[1] == "tune" for command in again) == 1
    assert (out / "nart.1").read_text() == "a\nb\n"
    (out / "nart.1").unlink()
    stand_in(tmp_path, "fairseq-generate", "print('H-0\t-0.1\ta')")
    assert run_recipe(f"{recipe} evaluate", **given)[0] == 1
    assert (
        "nart.1.log does not hold a translation of each of the 2"
        in (tmp_path / "stderr").read_text()
    )
    assert not (out / "nart.1").exists() and not list(out.glob("*.part"))


@pytest.mark.parametrize("variables", ["own_text"], indirect=True)
def test_failed_command_leaves_no_partial_file(variables, run_recipe, tmp_path):
    recipe, given = variables
    stand_in(tmp_path, "fairseq-nart", "print('half'); sys.exit(1)")
    assert run_recipe(f"{recipe} evaluate", **given)[0] != 0
    assert not list((tmp_path / "runs" / recipe / "tune").iterdir())

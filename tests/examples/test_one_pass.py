"""The step one_pass of the Multi30k recipe: texts, losses and tuned lengths."""

from pathlib import Path

import pytest


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_one_pass_systems(variables, run_recipe, tmp_path):
    recipe, given = variables
    run = tmp_path / "runs" / recipe
    status, commands = run_recipe(f"{recipe} one_pass", **given, N="60")
    assert status == 0
    distill = next(c for c in commands if c[:2] == ["fairseq-nart", "distill"])
    teachers = [f"{run}/teacher{kind}.pt" for kind in ("", "_lstm", "_conv")]
    assert distill[distill.index("--path") + 1] == ":".join(teachers)
    assert distill[distill.index("--lenpen") + 1] == "auto"
    plain, glancing, nmla = (c for c in commands if c[0] == "fairseq-train")
    assert {c[1] for c in (plain, glancing, nmla)} == {f"{run}/distilled.ensemble"}
    assert set(glancing) - set(plain) == {"--glancing", f"{run}/nart_ctc.glancing"}
    assert nmla[nmla.index("--ctc-loss") + 1] == "nmla" and "nmla" not in plain
    starts = [c[c.index("--init-from") + 1] for c in (plain, glancing, nmla)]
    assert starts == [f"{run}/teacher.pt"] * 2 + [f"{run}/nart_ctc.ensemble.pt"]
    updates = [c[c.index("--max-update") + 1] for c in (plain, glancing, nmla)]
    assert updates == ["60", "60", "10"]
    tuned = [c[c.index("--path") + 1] for c in commands if c[:2] == ["fairseq-nart", "tune"]]
    assert [Path(path).name for path in tuned] == [
        f"nart_ctc.{kind}.pt" for kind in ("ensemble", "glancing", "ensemble.nmla")
    ]
    assert not any("--rescore-with" in c for c in commands)
    translated = [c for c in commands if c[0] == "fairseq-generate"]
    assert len(translated) == 3 * 3 * 2
    assert sum("--rescore-alpha" in c for c in translated) == 3 * 3, "what tune printed"

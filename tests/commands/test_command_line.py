"""The user's commands, each in its own process, in a checkout and installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import fairseq
import pytest
from toys import SMALL, lines_of

from fairseq_nart import cli, tools

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))


def run_command(folder, command, *words, stdin="", site=None):
    """Runs a command in `folder`, with the packages in `site` first; returns its output."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if site:
        environment["PYTHONPATH"] = str(site)
    done = subprocess.run(
        [str(SCRIPTS / command), *map(str, words)],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(params=["checkout", "installed"])
def installation(request, tmp_path):
    """A working folder and site packages: a checkout, or an empty folder and `pip install .`."""
    if request.param == "checkout":
        return ROOT, None
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    # fairseq looks for a relative --user-dir beside itself: both must be in one folder.
    shutil.copytree(Path(fairseq.__file__).parent, site / "fairseq")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, ROOT], check=True, capture_output=True)
    return empty, site


def test_train_generate_and_interactive(installation, data, tmp_path):
    (folder, site), save = installation, tmp_path / "save"
    run_command(
        *(folder, "fairseq-train", data, "--user-dir", "fairseq_nart"),
        *("--arch", "nart_dcrf_tiny", "--max-tokens", "400", "--max-update", "2"),
        *("--save-dir", save, *SMALL),
        site=site,
    )
    path = save / "checkpoint_last.pt"
    words = (data, "--user-dir", "fairseq_nart", "--path", path)
    generated = lines_of(run_command(folder, "fairseq-generate", *words, site=site), "H")
    assert sorted(generated) == list(range(17))
    text = "heute muss der mann lesen .\n\n"
    out = run_command(folder, "fairseq-interactive", *words, stdin=text, site=site)
    assert sorted(lines_of(out, "H")) == [0, 1]


def test_crf_can_be_imported_without_fairseq(tmp_path):
    """It needs only torch."""
    (tmp_path / "fairseq.py").write_text("raise ImportError('no fairseq here')")
    shutil.copytree(ROOT / "fairseq_nart", tmp_path / "fairseq_nart")
    code = "from fairseq_nart.crf import LinearChainCRF; print(LinearChainCRF(9))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("words", [["export"], ["translate", "--path", "x.pt"]])
def test_missing_torch_is_reported_in_one_line(words, monkeypatch, capsys):
    for module in ("fairseq.dataclass.utils", "torch"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in ("translate_checkpoint", "_model"):  # imported by an earlier test
        monkeypatch.delitem(sys.modules, f"fairseq_nart.tools.{module}", raising=False)
        monkeypatch.delattr(tools, module, raising=False)
    assert cli.main([*words, "--help"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"fairseq-nart {words[0]} needs ") and printed.count("\n") == 1

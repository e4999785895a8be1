"""A new system is one file: it trains, generates, translates and can be benchmarked.

`nart_bag.py` beside this file has an option of training, one of decoding, a loss term and a field
of its proposal. `docs/adding-a-system.md` is written around it.
"""

import copy
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq import utils
from toys import (
    SMALL,
    build,
    fairseq_generate,
    fairseq_interactive,
    fairseq_train,
    lines_of,
    load_task,
)

from fairseq_nart import hub
from fairseq_nart.cli import main
from fairseq_nart.extensions import VARIABLE
from fairseq_nart.tools.benchmark.records import Translation, read

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).with_name("nart_bag.py")
SOURCE = "heute muss der mann lesen ."


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A user's package in a folder, for --user-dir."""
    folder = tmp_path_factory.mktemp("own") / "my_systems"
    folder.mkdir()
    shutil.copy(TOY, folder)
    (folder / "__init__.py").write_text("from my_systems import nart_bag\n")
    # As fairseq does when it finds --user-dir on its command line, which here is pytest's.
    utils.import_user_module(Namespace(user_dir=str(folder)))
    return folder


@pytest.fixture(scope="module")
def checkpoint(package, data, tmp_path_factory):
    words = ["--user-dir", str(package), "--arch", "nart_bag_tiny", *SMALL, "--max-update", "4"]
    words += ["--bag-weight", "0.3", "--eval-bleu", "--length-shift", "1"]
    return fairseq_train(data, tmp_path_factory.mktemp("save"), *words)


def test_new_system_trains_with_its_option_and_loss(checkpoint, data):
    state = torch.load(checkpoint, weights_only=True)
    assert state["cfg"]["model"].bag_weight == 0.3
    with pytest.raises(ValueError, match="--bag-weight must be at least 0"):
        fairseq_train(data, data / "none", "--arch", "nart_bag_tiny", *SMALL, "--bag-weight", "-1")


def test_new_system_decodes_with_its_option_everywhere(checkpoint, data, tmp_path, capsys):
    (tmp_path / "input").write_text(f"{SOURCE}\n")
    lengths = {}
    for shift in (0, 2):
        words = ["--length-shift", str(shift)]
        fairseq_interactive(data, checkpoint, tmp_path / "input", *words)
        translation = lines_of(capsys.readouterr().out, "H")[0][0].split("\t")[1]
        api = hub.from_pretrained(checkpoint, data, length_shift=shift)
        assert api.translate([SOURCE]) == [translation]
        given = ["translate", str(tmp_path / "input"), "--path", str(checkpoint)]
        assert main([*given, "--data", str(data), *words]) == 0
        assert capsys.readouterr().out.splitlines() == [translation]
        states = api.model.encode(next(api.batches([SOURCE], 1))[1])
        lengths[shift] = int(api.model.propose(states, api.engine.options).lengths)
    assert lengths[2] == lengths[0] + 2
    fairseq_generate(data, checkpoint, "--length-candidates", "3")
    assert len(lines_of(capsys.readouterr().out, "H")) == 17


def test_tools_know_the_options_of_the_users_systems(checkpoint, data, package, tmp_path):
    """Also in a process that has not imported them before."""
    words = ["--user-dir", package, "--path", checkpoint, "--data", data, "--length-shift", "1"]
    command = [sys.executable, "-m", "fairseq_nart.cli", "translate", *words]
    done = subprocess.run(command, input=f"{SOURCE}\n", capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    command[command.index(package)] = tmp_path / "none"
    done = subprocess.run(command, input=f"{SOURCE}\n", capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert f"--user-dir {tmp_path / 'none'} is not a folder" in done.stderr


def test_task_from_before_registration_uses_the_default(task, package):
    """`task` may be created before the system, and so lack the system's options."""
    cfg = copy.copy(task.cfg)
    vars(cfg).pop("length_shift", None)
    older = copy.copy(task)
    older.cfg = cfg
    assert older.build_engine(build(task, "nart_tiny"))


def test_option_of_new_system_is_refused_by_others(package, student, data):
    with pytest.raises(ValueError, match="--length-shift has no effect on Nart"):
        hub.from_pretrained(student, data, length_shift=1)


def test_new_system_can_be_benchmarked(checkpoint, data, package, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    task = load_task(data)
    task.load_dataset("test")
    for language, side in (("de", "source"), ("en", "target")):
        dictionary = task.src_dict if side == "source" else task.tgt_dict
        lines = [dictionary.string(task.dataset("test")[i][side]) for i in range(4)]
        (tmp_path / f"test.{language}").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "plan.toml").write_text(
        f'binarised = "{data}"\n[[test]]\nname = "toy"\nsource = "test.de"\n'
        'references = "test.en"\n[[system]]\nfamily = "Bag"\nlength_shift = [0, 1]\n'
        f'checkpoint = "{checkpoint}"\n'
    )
    words = ["bench", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "run")]
    words += ["--user-dir", str(package), "--stages", "parts", "translations", "--device", "cpu"]
    assert main(words) == 0
    records = [x for x in read(tmp_path / "run") if isinstance(x, Translation)]
    assert {x.system for x in records} == {"Bag, length_shift 0", "Bag, length_shift 1"}


def test_options_of_one_name_must_be_equal(monkeypatch):
    from dataclasses import dataclass, field

    from fairseq_nart.models import _registry
    from fairseq_nart.models.nart import Nart, NartDecoding

    @dataclass
    class Other(NartDecoding):
        ctc_beam: int = field(default=2)

    monkeypatch.setattr(_registry, "SYSTEMS", dict(_registry.SYSTEMS))
    with pytest.raises(ValueError, match="ctc_beam: rename one, or share a base class"):
        _registry.register_system("nart_other", "other")(type("O", (Nart,), {"Decoding": Other}))


def test_documentation_shows_this_system():
    text = (ROOT / "docs" / "adding-a-system.md").read_text("utf-8")
    code = TOY.read_text("utf-8")
    blocks = [x for x in re.findall(r"```python\n(.*?)```", text, re.S) if "my_systems" not in x]
    assert blocks and all(block in code for block in blocks)
    shown = "".join(blocks)
    for name in ("BagConfig", "BagDecoding", "BagProposal", "register_system", "word_loss_terms"):
        assert name in shown

"""Checkpoints are read as plain data, and a bad file is explained."""

import argparse
import errno
import importlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairseq_nart.compat.checkpoints import CheckpointError, load_checkpoint
from fairseq_nart.compat.literals import evaluate


def _good_state() -> dict[str, Any]:
    history = [{"optimizer_name": "FairseqAdam", "lr_scheduler_state": {}, "num_updates": 1}]
    meters = {"val": np.array([1, 2]), "sum": np.float64(0.5), "count": np.int64(3)}
    options = argparse.Namespace(arch="transformer", data="bin")
    return {
        "args": None,
        "cfg": {"model": options, "common": {"seed": 1}},
        "model": {"weight": torch.arange(3.0)},
        "optimizer_history": history,
        "extra_state": {"train_iterator": {"epoch": 1}, "metrics": [meters]},
    }


def _load_by_fairseq(path: Path) -> dict[str, Any]:
    utils: Any = importlib.import_module("fairseq.checkpoint_utils")
    state: dict[str, Any] = utils.load_checkpoint_to_cpu(str(path))
    return state


LOADERS = [load_checkpoint, _load_by_fairseq]
Loader = Callable[[Path], dict[str, Any]]


def test_interrupted_copy_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = importlib.import_module("fairseq.file_io").PathManager.copy
    new, last = tmp_path / "checkpoint1.pt", tmp_path / "checkpoint_last.pt"
    new.write_bytes(b"new")
    last.write_bytes(b"old")

    def fail(_source: str, target: str) -> None:
        Path(target).write_bytes(b"n")
        raise OSError(errno.ENOSPC, "No space left on device")

    message = r"checkpoint_last\.pt: the checkpoint cannot be written \(the disk is full"
    with monkeypatch.context() as patched, pytest.raises(OSError, match=message):
        patched.setattr("shutil.copyfile", fail)
        copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == b"old"
    assert copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == b"new"
    assert sorted(x.name for x in tmp_path.iterdir()) == [new.name, last.name]


class _Malicious:
    """Creates a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


class _CopiedDtype:
    """A private copy of a NumPy dtype, whose flags the file sets: numbers become pointers."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, ("O8", False, True), (3, "<", None, None, None, -1, -1, 63)


@pytest.mark.parametrize("load", LOADERS)
def test_options_and_numpy_values_are_loaded(tmp_path: Path, load: Loader) -> None:
    path = tmp_path / "checkpoint_best.pt"
    torch.save(_good_state(), path)
    state = load(path)
    assert state["cfg"]["model"].arch == "transformer"
    assert state["model"]["weight"].tolist() == [0, 1, 2]
    meters = state["extra_state"]["metrics"][0]
    assert meters["val"].tolist() == [1, 2]
    assert (meters["sum"], meters["count"]) == (0.5, 3)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("load", LOADERS)
def test_malicious_checkpoint_runs_nothing(tmp_path: Path, load: Loader, legacy: bool) -> None:
    target = tmp_path / "created"
    path = tmp_path / "evil.pt"
    state = {**_good_state(), "extra_state": _Malicious(target)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"evil\.pt.*refused.*mkdir.*source you trust"):
        load(path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # shows that the file would have worked
    assert target.exists()


def test_plain_pickle_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "created"
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"model": {}, "args": _Malicious(target)}))
    with pytest.raises(CheckpointError, match=r"evil\.pt"):
        load_checkpoint(path)
    assert not target.exists()


def test_fairseq_cannot_disable_the_protection(tmp_path: Path) -> None:
    target = tmp_path / "created"
    torch.save({**_good_state(), "extra_state": _Malicious(target)}, tmp_path / "evil.pt")
    utils: Any = importlib.import_module("fairseq.checkpoint_utils")
    with open(tmp_path / "evil.pt", "rb") as stream, pytest.raises(CheckpointError):
        utils.torch.load(stream, weights_only=False)
    assert not target.exists()


def test_numpy_types_other_than_numbers_are_refused(tmp_path: Path) -> None:
    torch.save({**_good_state(), "extra_state": _CopiedDtype()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"refused.*numpy\.dtype\('O8'\)"):
        load_checkpoint(tmp_path / "evil.pt")


def test_file_cannot_change_a_numpy_type() -> None:
    data = io.BytesIO()
    torch.save(np.dtype("f8"), data)
    changed = data.getvalue().replace(b"K\x00t", b"K\x3ft")  # the flags, last of the state
    loaded = torch.load(io.BytesIO(changed), weights_only=True)
    assert loaded is np.dtype("f8") and not loaded.hasobject


@pytest.mark.parametrize("load", LOADERS)
def test_missing_file_is_reported(tmp_path: Path, load: Loader) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pt.*cannot be opened.*--save-dir"):
        load(tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load(tmp_path)


@pytest.mark.parametrize("load", LOADERS)
def test_damaged_files_are_reported(tmp_path: Path, load: Loader) -> None:
    torch.save(_good_state(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    bad = tmp_path / "bad.pt"
    for content in (b"", whole[:100], whole[: len(whole) // 2], b"just some text\n" * 50):
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.pt: not a readable checkpoint.*copy it"):
            load(bad)


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    "foreign",
    [
        *({"weight": torch.zeros(2)}, {"model": {}}, {"cfg": {"a": 1}}, torch.zeros(2), [1]),
        *({"model": {}, "cfg": torch.zeros(2)}, {"model": [], "cfg": {"a": 1}}),
        {"model": {}, "args": "text"},
    ],
)
def test_other_files_are_refused(tmp_path: Path, load: Loader, foreign: Any) -> None:
    torch.save(foreign, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: not a fairseq checkpoint.*expected"):
        load(tmp_path / "other.pt")


def test_options_in_a_checkpoint_are_values_not_code(tmp_path: Path) -> None:
    # Every Transformer reads adaptive_softmax_cutoff from its checkpoint with eval_str_list.
    utils: Any = importlib.import_module("fairseq.utils")
    target = tmp_path / "created"
    with pytest.raises(ValueError, match="may not hold code"):
        utils.eval_str_list(f"[__import__('os').mkdir({str(target)!r})]", type=int)
    assert not target.exists()
    assert utils.eval_str_list("100, 200", type=int) == [100, 200]
    assert utils.eval_bool("True") and not utils.eval_bool(False)
    fconv: Any = importlib.import_module("fairseq.models.fconv")
    assert fconv.eval("[(512, 3)] * 2 + [(1024, 1)]") == [(512, 3), (512, 3), (1024, 1)]


def test_evaluate() -> None:
    assert evaluate(" {'a': -1, 'b': (1e-3, None)} ") == {"a": -1, "b": (1e-3, None)}
    for code in ("open('x')", "a", "(1).real", "[x for x in 'ab']", "1 +"):
        with pytest.raises(ValueError, match="not a plain value"):
            evaluate(code)

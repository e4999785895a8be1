"""Pickled objects that create a folder when they are read, each in another way."""

import argparse
import functools
import importlib
import io
import operator
import os
import pickle
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Reduced:
    """Is pickled as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class WithState:
    """Is pickled as an object whose class sets its state, with the state a call."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return argparse.Namespace, (), {"options": self.state}


def _array(content: Any) -> Any:
    array = np.empty(1, dtype=object)
    array[0] = content
    return array


def payloads(folder: Path, marker: Path) -> dict[str, Any]:
    """Objects by name. Each makes the folder `marker`; `folder` gets files that some read."""
    made = str(marker)
    code = f"__import__('os').mkdir({made!r})"
    script = folder / "evil_script.py"
    script.write_text(f"{code}\n", "utf-8")
    package = folder / "evil_package"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text(f"{code}\n", "utf-8")
    simple = Reduced(os.mkdir, made)
    pickled = pickle.dumps(simple)
    np.save(folder / "evil.npy", _array(simple))
    torch.save(simple, folder / "evil.inner.pt")
    inner = io.BytesIO()
    torch.save(simple, inner)
    utils: Any = importlib.import_module("fairseq.utils")
    hydra: Any = importlib.import_module("hydra.utils")
    return {
        "os.mkdir": simple,
        "os.system": Reduced(os.system, f"mkdir '{made}'"),
        "subprocess": Reduced(subprocess.check_call, ["mkdir", made]),
        "eval": Reduced(eval, code),
        "exec": Reduced(exec, code),
        "method of a path": Reduced(Path.mkdir, marker),
        "runpy": Reduced(runpy.run_path, str(script)),
        "import": Reduced(importlib.import_module, "evil_package"),
        "fairseq's user folder": Reduced(
            utils.import_user_module, argparse.Namespace(user_dir=str(package))
        ),
        "hydra": Reduced(hydra.call, {"_target_": "os.mkdir", "_args_": [made]}),
        "pickle in a pickle": Reduced(pickle.loads, pickled),
        "checkpoint in a checkpoint": Reduced(torch.storage._load_from_bytes, inner.getvalue()),
        "another checkpoint": Reduced(
            functools.partial(torch.load, weights_only=False), str(folder / "evil.inner.pt")
        ),
        "another array": Reduced(
            functools.partial(np.load, allow_pickle=True), str(folder / "evil.npy")
        ),
        "partial": Reduced(functools.partial(os.mkdir, made)),
        "methodcaller": Reduced(operator.methodcaller("mkdir"), marker),
        "reduce": Reduced(functools.reduce, os.mkdir, [made, 0o755]),
        "state": WithState(simple),
        "array of objects": _array(simple),
    }


def fields(state: dict[str, Any]) -> dict[str, Callable[[Any], dict[str, Any]]]:
    """Places of a checkpoint's state by name, and a function that puts an object there."""

    def at(*keys: Any) -> Callable[[Any], dict[str, Any]]:
        def put(value: Any) -> dict[str, Any]:
            def replaced(content: Any, rest: tuple[Any, ...]) -> Any:
                if not rest:
                    return value
                key, *further = rest
                content = content or {}
                if isinstance(content, list):
                    return [replaced(content[0] if content else {}, tuple(further))]
                if isinstance(content, argparse.Namespace):
                    options = {**vars(content), key: replaced(None, tuple(further))}
                    return argparse.Namespace(**options)
                return {**content, key: replaced(content.get(key), tuple(further))}

            result: dict[str, Any] = replaced(state, keys)
            return result

        return put

    return {
        "/".join(map(str, keys)): at(*keys)
        for keys in (
            *(("args",), ("cfg",), ("cfg", "task"), ("cfg", "model"), ("cfg", "common")),
            *(("cfg", "task", "data"), ("cfg", "model", "init_from")),
            *(("model",), ("model", "weight"), ("criterion",), ("task_state",)),
            *(("task_state", "symbols"), ("optimizer_history",), ("optimizer_history", 0)),
            *(("last_optimizer_state",), ("last_optimizer_state", "state")),
            *(("extra_state",), ("extra_state", "train_iterator"), ("extra_state", "metrics")),
            *(("extra_state", "best"), ("something_else",)),
        )
    }


def forget(marker: Path) -> bool:
    """Whether the payload ran. Removes its traces, so that it could run again."""
    sys.modules.pop("evil_package", None)
    utils: Any = importlib.import_module("fairseq.utils")
    memo: set[str] = getattr(utils.import_user_module, "memo", set())
    memo -= {path for path in memo if path.endswith("evil_package")}
    ran = marker.exists()
    if ran:
        marker.rmdir()
    return ran

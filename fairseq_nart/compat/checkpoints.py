"""Reads fairseq checkpoints without running code, with clear errors for bad files.

Since torch 2.6 ``torch.load`` reads only plain data (``weights_only=True``) and refuses every
fairseq checkpoint, because each holds an ``argparse.Namespace``. Rather than turn the protection
off, we allow the few further types that are plain data too.
"""

import argparse
import importlib
import logging
import os
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from fairseq_nart.compat import named_paths, safe_types
from fairseq_nart.compat._patch import view_module, wrap
from fairseq_nart.errors import UserError

logger = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint file is missing, damaged, refused, or not a fairseq checkpoint."""


def allow_checkpoint_types() -> None:
    """Allow the types that fairseq checkpoints hold besides tensors and containers; idempotent."""
    torch.serialization.add_safe_globals(safe_types.in_checkpoints())


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a fairseq checkpoint onto the CPU; no code in the file can run.

    Raises:
        CheckpointError: the file is missing, damaged, holds more than plain data, or is not a
            fairseq checkpoint; the message names the file and says what to do.
    """
    allow_checkpoint_types()
    name = os.fspath(path)
    with _open_checkpoint(name) as stream:
        return _read(stream, name, map_location="cpu")


def options_of(state: dict[str, Any]) -> Any:
    """fairseq's config of the training run that wrote a checkpoint, in old and new formats."""
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    args = state.get("args")
    return convert_namespace_to_omegaconf(args) if args else state["cfg"]


def fix_fairseq_loading() -> None:
    """Give fairseq's own loading the same protection and the same messages.

    ``checkpoint_utils`` gets a ``torch`` with our ``load``. This covers both of its calls,
    whatever ``weights_only`` they pass.
    """
    checkpoint_utils: Any = importlib.import_module("fairseq.checkpoint_utils")
    view_module(checkpoint_utils, "torch", load=_load_for_fairseq)
    wrap(checkpoint_utils, "load_checkpoint_to_cpu", _load_to_cpu)
    wrap(importlib.import_module("fairseq.trainer").Trainer, "load_checkpoint", _resume)


def _load_for_fairseq(stream: BinaryIO, map_location: Any = None, **_ignored: Any) -> Any:
    return _completed(_read(stream, str(getattr(stream, "name", "checkpoint")), map_location))


_NO_OPTIMIZER = {
    "criterion_name": "",
    "optimizer_name": "",
    "lr_scheduler_state": {},
    "num_updates": 0,
}


def _completed(state: dict[str, Any]) -> dict[str, Any]:
    """Add the entries that fairseq reads even when only the weights are needed.

    Tools that make checkpoints smaller leave them out. fairseq's first formats, recognized by
    their best loss, are left alone, because fairseq upgrades them itself.
    """
    history = state.get("optimizer_history") or [{}]
    if "best_loss" not in state and "best_loss" not in history[-1]:
        state["optimizer_history"] = [*history[:-1], {**_NO_OPTIMIZER, **history[-1]}]
        if not history[-1].get("optimizer_name"):
            state.pop("last_optimizer_state", None)
    if "epoch" not in state:
        extra = state["extra_state"] = state.get("extra_state") or {}
        if "epoch" not in extra:
            extra.setdefault("train_iterator", {"epoch": 1, "iterations_in_epoch": 0})
    if state.get("task_state", {}) is None:
        del state["task_state"]
    return state


def _resume(
    original: Callable[..., Any],
    trainer: Any,
    filename: str,
    reset_optimizer: bool = False,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Refuse to resume without the optimizer's state unless ``--reset-optimizer`` is given."""
    extra_state = original(trainer, filename, reset_optimizer, *args, **kwargs)
    if extra_state is None or reset_optimizer:
        return extra_state
    last = trainer._optim_history[-1]
    if not last["optimizer_name"] or last["num_updates"] != trainer.get_num_updates():
        raise CheckpointError(
            f"{filename} has weights but no optimizer state, so training cannot resume: add "
            "--reset-optimizer to continue with a new optimizer"
        )
    return extra_state


def _load_to_cpu(
    original: Callable[..., Any],
    path: str,
    arg_overrides: dict[str, Any] | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Report a missing file, and read no file that the checkpoint names."""
    if "://" not in path:  # other addresses belong to fairseq's path manager
        _open_checkpoint(path).close()
    state = original(path, arg_overrides, *args, **kwargs)
    given = arg_overrides or {}
    for option, value in named_paths.needed(state, given).items():
        raise CheckpointError(
            f"{path} needs another checkpoint, which its option {option} names: {value}. It is "
            "not read unless you give the path yourself, for example to fairseq-generate with "
            f'--model-overrides "{{{option!r}: {value!r}}}"'
        )
    for option, value in named_paths.clear_unneeded(state, given).items():
        logger.warning(
            "%s names the file %s (%s): it is not read, because the checkpoint has the weights",
            *(path, value, option),
        )
    return state


def _open_checkpoint(name: str) -> BinaryIO:
    try:
        return open(name, "rb")
    except OSError as error:
        raise CheckpointError(
            f"{name}: the checkpoint cannot be opened ({error.strerror}). Check the path; "
            "training writes checkpoint_best.pt and checkpoint_last.pt under --save-dir."
        ) from error


def _read(stream: BinaryIO, name: str, map_location: Any) -> dict[str, Any]:
    try:
        state = torch.load(stream, map_location=map_location, weights_only=True)
    # Random bytes can raise any exception.
    except Exception as error:
        raise CheckpointError(f"{name}: {_explain(error)}") from error
    content = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
    has_options = isinstance(state, dict) and (
        (isinstance(state.get("cfg"), dict) and state["cfg"])
        or isinstance(state.get("args"), argparse.Namespace)
    )
    if not has_options or not isinstance(state.get("model"), dict):
        raise CheckpointError(
            f"{name}: not a fairseq checkpoint: expected 'model' and one of 'cfg' and 'args', "
            f"found {_shorten(str(content))}. Give a file written by fairseq-train, such as "
            "checkpoint_best.pt."
        )
    if lookup := named_paths.lookup_in([state.get("cfg"), state.get("args")]):
        raise CheckpointError(
            f"{name}: the checkpoint is refused: its options hold {_shorten(lookup)}, which would "
            "be replaced by a value of this machine, such as an environment variable. Use a "
            "checkpoint from a source you trust."
        )
    return dict(state)


def _explain(error: Exception) -> str:
    text = str(error)
    refused = re.search(r"GLOBAL (\S+)|(unrecognized function .*|Can only .*)", text)
    if isinstance(error, pickle.UnpicklingError) and refused:
        what = refused.group(1) or refused.group(2)
        return (
            f"the checkpoint is refused: it holds {_shorten(what)}, which is not plain data. "
            "Reading it could run code, so it was not read. Use a checkpoint written by fairseq "
            "0.9 or later, from a source you trust."
        )
    # torch puts advice (turn the protection off) before the cause; drop it.
    cause = text.split("WeightsUnpickler error: ")[-1].strip() or type(error).__name__
    return (
        f"not a readable checkpoint ({_shorten(cause)}). The file is damaged, truncated or not a "
        "checkpoint: copy it again, or use an older checkpoint."
    )


def _shorten(text: str, width: int = 120) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= width else line[: width - 3] + "..."

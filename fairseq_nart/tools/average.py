"""Averages the weights of several checkpoints."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.compat.checkpoints import load_checkpoint
from fairseq_nart.compat.saving import save_checkpoint
from fairseq_nart.errors import UserError

SAME = "average checkpoints of one training run"
"""Advice for checkpoints that differ."""

OPTIMIZER_STATE = "last_optimizer_state"

_TRAINING_NAME = re.compile(r"checkpoint(\d+|_\d+_\d+|_best|_last|\.best_.+)\.pt")


def newest(save_dir: Path, count: int) -> list[Path]:
    """The `count` newest epoch and interval checkpoints in `save_dir`, newest first.

    UserError where there are fewer.
    """
    ages = {}
    for file in save_dir.iterdir():
        if name := re.fullmatch(r"checkpoint(\d+)\.pt", file.name):
            # An epoch's checkpoint is written after those of its intervals.
            ages[file] = (int(name[1]), float("inf"))
        elif name := re.fullmatch(r"checkpoint_(\d+)_(\d+)\.pt", file.name):
            ages[file] = (int(name[1]), float(name[2]))
    advice = (
        "fairseq-train writes one per epoch unless --no-epoch-checkpoints is given, and one every "
        "N updates with --save-interval-updates N; --keep-last-epochs and --keep-interval-updates "
        "limit how many are kept"
    )
    return _first(sorted(ages, key=ages.__getitem__, reverse=True), count, save_dir, advice)


def best(save_dir: Path, count: int) -> list[Path]:
    """The `count` checkpoints in `save_dir` with the best validation scores, best first.

    They are those that fairseq-train's --keep-best-checkpoints keeps. UserError where there are
    fewer, or where they were selected by different metrics.
    """
    scores, metrics = {}, set()
    for file in save_dir.iterdir():
        if name := re.fullmatch(r"checkpoint\.best_(.+)_(-?\d+\.?\d*)\.pt", file.name):
            metrics.add(name[1])
            scores[file] = float(name[2])
    if len(metrics) > 1:
        raise UserError(
            f"{save_dir}: the best by {' and by '.join(sorted(metrics))} cannot be compared: move "
            "away all but one kind"
        )
    advice = (
        f"fairseq-train keeps them with --keep-best-checkpoints {count}, but a new one only if it "
        "is better than the worst it has kept so far: average fewer"
    )
    kept = _first(list(scores), count, save_dir, advice)
    larger_is_better = _maximizes(load_checkpoint(kept[0]))
    return sorted(scores, key=scores.__getitem__, reverse=larger_is_better)[:count]


def _first(files: list[Path], count: int, save_dir: Path, advice: str) -> list[Path]:
    if len(files) < count:
        names = f" ({', '.join(sorted(file.name for file in files))})" if files else ""
        raise UserError(
            f"{save_dir} holds {len(files)} of the {count} checkpoints asked for{names}: {advice}"
        )
    return files[:count]


def _maximizes(state: dict[str, Any]) -> bool:
    """Whether the training run that wrote `state` maximized its validation score."""
    options = vars(state["args"]) if state.get("args") else state["cfg"]["checkpoint"]
    return bool(options["maximize_best_checkpoint_metric"])


def mean_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """Name to mean over `files`, as float32, computed in float64; integers must be equal.

    Holds one checkpoint in memory at a time. UserError names the first file and tensor that differ
    from the first file in name, shape or, for integers, value.
    """
    total = {name: _widened(tensor) for name, tensor in load_checkpoint(files[0])["model"].items()}
    for file in files[1:]:
        weights = load_checkpoint(file)["model"]
        if differing := sorted(total.keys() ^ weights.keys()):
            only = file if differing[0] in weights else files[0]
            raise UserError(
                f"{file}: other tensors than in {files[0]}: {differing[0]} is only in {only}: "
                f"{SAME}"
            )
        for name, tensor in weights.items():
            _add(total[name], _widened(tensor), f"{file}: {name}")
    return {
        name: (tensor / len(files)).float() if tensor.is_floating_point() else tensor
        for name, tensor in total.items()
    }


def _widened(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _add(total: Tensor, more: Tensor, what: str) -> None:
    """Adds floats in place; integers must be equal."""
    if total.shape != more.shape:
        raise UserError(
            f"{what} has shape {tuple(more.shape)}, in the first checkpoint {tuple(total.shape)}: "
            f"{SAME}"
        )
    if total.is_floating_point():
        total += more
    elif not torch.equal(total, more):
        raise UserError(
            f"{what} differs from the first checkpoint's, and integers have no mean: {SAME}"
        )


def average(files: Sequence[Path], out: Path) -> None:
    """Writes a fairseq checkpoint with the mean weights of `files`; the rest is the first file's.

    The optimizer's state is left out; `extra_state["averaged"]` names the files. OSError where
    `out` cannot be written.
    """
    weights = mean_weights(files)
    state = {name: x for name, x in load_checkpoint(files[0]).items() if name != OPTIMIZER_STATE}
    state["model"] = weights
    names = [file.name for file in files]
    state["extra_state"] = {**(state.get("extra_state") or {}), "averaged": names}
    save_checkpoint(state, out)
    print(f"{out}: mean of {', '.join(names)}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart average`."""
    parser.add_argument("save_dir", type=Path, help="--save-dir of a training run")
    parser.add_argument("--out", type=Path, required=True, help="file for the averaged checkpoint")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--last", type=int, metavar="K", help="average the K newest checkpoints")
    which.add_argument(
        "--best", type=int, metavar="K", help="average the K best from --keep-best-checkpoints"
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart average`."""
    choose, count = (newest, options.last) if options.best is None else (best, options.best)
    if count < 1:
        raise UserError(f"--last and --best must be at least 1, not {count}")
    out = options.out
    if out.parent.resolve() == options.save_dir.resolve() and _TRAINING_NAME.fullmatch(out.name):
        raise UserError(
            f"--out {out} is a name that fairseq-train uses: give another, such as "
            f"{out.with_name('average.pt')}"
        )
    average(choose(options.save_dir, count), out)

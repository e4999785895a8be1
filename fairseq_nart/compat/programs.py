"""Fixes or refuses options that fairseq's programs ignore, or that make them fail late.

Every call of ``fairseq-generate --num-shards 2`` translates everything. ``--fp16`` on a CPU ends
in an error about CUDA. ``--best-checkpoint-metric`` with a metric that validation does not compute
is a KeyError after an epoch, which is lost. Several programs accept options that they never read.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch

from fairseq_nart.compat._patch import wrap
from fairseq_nart.errors import UserError

logger = logging.getLogger(__name__)

_FOR_GENERATE = "it is for fairseq-generate"
_FOR_TRAINING = "it is for training"
_UNREAD = {
    "fairseq-generate": {"--bf16": _FOR_TRAINING, "--valid-subset": "type --gen-subset"},
    "fairseq-interactive": {
        "--bf16": _FOR_TRAINING,
        "--num-shards": _FOR_GENERATE,
        "--results-path": _FOR_GENERATE,
    },
    "fairseq-validate": {
        "--bf16": _FOR_TRAINING,
        "--num-shards": _FOR_GENERATE,
        "--results-path": _FOR_GENERATE,
        "--gen-subset": "type --valid-subset",
    },
}
"""Program to options that it would silently ignore, and advice for each."""


def refuse_what_fails(
    parser: argparse.ArgumentParser, words: Sequence[str], options: argparse.Namespace
) -> None:
    """Raise UserError for an option that would fail late or do nothing.

    `options` is the result of parsing the command line `words` with `parser`.
    """
    program = _program(parser)
    typed = {word.partition("=")[0] for word in words}
    if getattr(options, "write_checkpoints_asynchronously", False):
        raise UserError(
            "--write-checkpoints-asynchronously: fairseq then writes no checkpoint_last.pt, and an "
            "interruption can leave a part of a checkpoint: leave it out"
        )
    for option, advice in _UNREAD.get(program, {}).items():
        if option in typed:
            raise UserError(f"{program} does not read {option}: leave it out; {advice}")
    on_cpu = getattr(options, "cpu", False) or not torch.cuda.is_available()
    if getattr(options, "fp16", False) and on_cpu:
        option = "fp16"
        if getattr(options, "memory_efficient_fp16", False):
            option = "memory-efficient-fp16"
        instead = f"type --{option.replace('fp', 'bf')}, or " if program == "fairseq-train" else ""
        raise UserError(f"--{option} needs a GPU: {instead}leave it out")


def _program(parser: argparse.ArgumentParser) -> str:
    """The program that a parser belongs to, recognized by an option that only it has.

    The parser of fairseq-validate has no default task.
    """
    known = parser._option_string_actions
    marks = {"--lr": "train", "--buffer-size": "interactive", "--nbest": "generate"}
    if parser.get_default("task") is None:
        marks["--path"] = "validate"
    return f"fairseq-{next((marks[option] for option in marks if option in known), '')}"


def fix_programs() -> None:
    """Fix the programs that are loaded.

    They are not imported here, because importing one configures logging for the whole process.
    """
    for program in loaded("generate"):
        wrap(program, "_main", _generate)
    for program in loaded("train"):
        wrap(program, "get_valid_stats", _get_valid_stats)
        wrap(program, "validate_and_save", _validate_and_save)


def loaded(name: str) -> Iterator[ModuleType]:
    """The module of a program if it is loaded, also under ``python -m``."""
    full, main = f"fairseq_cli.{name}", sys.modules["__main__"]
    if full in sys.modules:
        yield sys.modules[full]
    if getattr(getattr(main, "__spec__", None), "name", None) == full:
        yield main


def _generate(original: Callable[..., Any], cfg: Any, output_file: Any) -> Any:
    """Translate the shard ``--shard-id`` only; log to the output.

    One of fairseq's model files configures logging when imported, which disables the program's own
    configuration: its settings, the first line of a log, went to standard error.
    """
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler.stream is sys.stderr:
            logging.root.removeHandler(handler)
    shards, shard = cfg.dataset.num_shards, cfg.dataset.shard_id
    if not 0 <= shard < shards:
        raise UserError(
            f"--shard-id must be 0 to {shards - 1} with --num-shards {shards}, not {shard}"
        )
    if shards > 1:
        # The program reads the shards from these options only.
        cfg.distributed_training.distributed_world_size = shards
        cfg.distributed_training.distributed_rank = shard
    try:
        return original(cfg, output_file)
    except ZeroDivisionError:  # in the program's last lines, which log words per second and BLEU
        logger.warning("no speed and no BLEU: no sentences, or every translation is empty")


class _UnknownMetricError(UserError):
    pass


def _get_valid_stats(
    original: Callable[..., Any], cfg: Any, trainer: Any, stats: dict[str, Any], *args: Any
) -> Any:
    metric = cfg.checkpoint.best_checkpoint_metric
    if metric not in stats:
        raise _UnknownMetricError(
            f"--best-checkpoint-metric {metric}: validation does not compute it, only "
            f"{', '.join(sorted(stats))}. The training run is saved: to resume, give the same "
            "command with one of these"
        )
    return original(cfg, trainer, stats, *args)


def _validate_and_save(
    original: Callable[..., Any], cfg: Any, trainer: Any, task: Any, epoch_itr: Any, *args: Any
) -> Any:
    try:
        return original(cfg, trainer, task, epoch_itr, *args)
    except _UnknownMetricError:
        utils: Any = importlib.import_module("fairseq.checkpoint_utils")
        utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
        raise

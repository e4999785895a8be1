"""Options that fairseq's programs ignore, or fail on after the work is done.

``fairseq-generate --num-shards 2`` translates everything in each of its calls. ``--fp16`` on a CPU
ends in a message of torch's about CUDA. ``--best-checkpoint-metric`` with a metric that validation
does not compute is a KeyError after an epoch, which is lost. Several options are accepted by
programs that never read them.
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

logger = logging.getLogger(__name__)

_OF_GENERATE = "it is for fairseq-generate"
_OF_TRAINING = "it is for training"
_UNREAD = {
    "fairseq-generate": {"--bf16": _OF_TRAINING, "--valid-subset": "type --gen-subset"},
    "fairseq-interactive": {
        "--bf16": _OF_TRAINING,
        "--num-shards": _OF_GENERATE,
        "--results-path": _OF_GENERATE,
    },
    "fairseq-validate": {
        "--bf16": _OF_TRAINING,
        "--num-shards": _OF_GENERATE,
        "--results-path": _OF_GENERATE,
        "--gen-subset": "type --valid-subset",
    },
}
"""What would be ignored silently, and what the user may have wanted."""


def refuse_what_fails(
    parser: argparse.ArgumentParser, words: Sequence[str], options: argparse.Namespace
) -> None:
    """ValueError naming the option that fails late or does nothing.

    `options` are what `parser` made of the command line `words`.
    """
    program = _program(parser)
    typed = {word.partition("=")[0] for word in words}
    for option, advice in _UNREAD.get(program, {}).items():
        if option in typed:
            raise ValueError(f"{program} does not read {option}: leave it out; {advice}")
    on_cpu = getattr(options, "cpu", False) or not torch.cuda.is_available()
    if getattr(options, "fp16", False) and on_cpu:
        option = "fp16"
        if getattr(options, "memory_efficient_fp16", False):
            option = "memory-efficient-fp16"
        instead = f"type --{option.replace('fp', 'bf')}, or " if program == "fairseq-train" else ""
        raise ValueError(f"--{option} needs a GPU: {instead}leave it out")


def _program(parser: argparse.ArgumentParser) -> str:
    """Whose parser it is: each has an option that no other has, or no default task."""
    known = parser._option_string_actions
    marks = {"--lr": "train", "--buffer-size": "interactive", "--nbest": "generate"}
    if parser.get_default("task") is None:
        marks["--path"] = "validate"
    return f"fairseq-{next((marks[option] for option in marks if option in known), '')}"


def mend_programs() -> None:
    """Mend the programs where they are loaded.

    They are not imported here: importing one configures logging for the whole process.
    """
    for program in _loaded("generate"):
        wrap(program, "_main", _generate)
    for program in _loaded("train"):
        wrap(program, "get_valid_stats", _get_valid_stats)
        wrap(program, "validate_and_save", _validate_and_save)


def _loaded(name: str) -> Iterator[ModuleType]:
    """The program, also where ``python -m`` has started it."""
    full, main = f"fairseq_cli.{name}", sys.modules["__main__"]
    if full in sys.modules:
        yield sys.modules[full]
    if getattr(getattr(main, "__spec__", None), "name", None) == full:
        yield main


def _generate(original: Callable[..., Any], cfg: Any, output_file: Any) -> Any:
    """Translate the share of the batches that ``--shard-id`` names; log to the output.

    A model file of fairseq configures logging when it is imported, so that the program's own
    configuration does nothing: its settings, the first line of a log, went to standard error.
    """
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler.stream is sys.stderr:
            logging.root.removeHandler(handler)
    shards, shard = cfg.dataset.num_shards, cfg.dataset.shard_id
    if not 0 <= shard < shards:
        raise ValueError(
            f"--shard-id must be 0 to {shards - 1} with --num-shards {shards}, not {shard}"
        )
    if shards > 1:
        # The program takes the shards from these, and nothing else.
        cfg.distributed_training.distributed_world_size = shards
        cfg.distributed_training.distributed_rank = shard
    try:
        return original(cfg, output_file)
    except ZeroDivisionError:  # the last lines of the program: words a second, BLEU
        logger.warning("no speed and no BLEU: there is no sentence, or every translation is empty")


class _UnknownMetricError(ValueError):
    pass


def _get_valid_stats(
    original: Callable[..., Any], cfg: Any, trainer: Any, stats: dict[str, Any], *args: Any
) -> Any:
    metric = cfg.checkpoint.best_checkpoint_metric
    if metric not in stats:
        raise _UnknownMetricError(
            f"--best-checkpoint-metric {metric}: validation computes no such metric, but "
            f"{', '.join(sorted(stats))}. The training was saved: give the same command with one "
            "of these to go on"
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

"""Lets our architectures bring their own task, criterion, optimiser and schedule.

fairseq parses `--task` and `--criterion` with defaults of its own. When it has imported our package
and before it parses for good, we put our words in front of the user's: what the user types comes
later on the line and wins, and an option that replaces another (`--optimizer`) drops what only
belonged to ours. `--help` waits until fairseq has added the options of model and task.
"""

import argparse
import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils, options, utils

from fairseq_nart.models._presets import TASK, training_defaults
from fairseq_nart.tasks import _languages

HELP = {"-h", "--help"}

ModifyParser = Callable[[argparse.ArgumentParser], None]


def _given(words: list[str], option: str) -> bool:
    return any(word == option or word.startswith(option + "=") for word in words)


def _value(words: list[str], names: tuple[str, ...]) -> str | None:
    """What the last of `names` on the command line says."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(*names, dest="value")
    return str(value) if (value := parser.parse_known_args(words)[0].value) else None


def with_defaults(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """The command line `words` with our defaults in front.

    `parser` is fairseq's: where its default task is plain translation or, to validate, none, ours
    stands in. Batches of a validation are by default as large as fairseq-generate's. ValueError
    where BLEU is to choose the best checkpoint and is not computed.
    """
    known = parser._option_string_actions
    added: list[str] = []
    task = known["--task"].default if "--task" in known else ""
    if task in ("translation", None) and not _given(words, "--task"):
        added += ["--task", TASK]
    sizes = ("--max-tokens", "--batch-size", "--max-sentences")
    if task is None and not any(_given(words, size) for size in sizes):
        added += ["--max-tokens", "12000"]
    if "--save-dir" in known and "--lr" in known:
        for option, default in training_defaults(_value(words, ("--arch", "-a"))).items():
            if not _given(words, option):
                added += default
        metric, bleu = _value(words, ("--best-checkpoint-metric",)), _given(words, "--eval-bleu")
        if bleu and not metric:
            added += ["--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"]
        ours = _value(words, ("--task",)) in (None, TASK)
        if metric == "bleu" and ours and not bleu and not _given(words, "--disable-validation"):
            raise ValueError("--best-checkpoint-metric bleu: validation needs --eval-bleu too")
    return added + words


def take_languages(options: argparse.Namespace) -> None:
    """Has the checkpoint of `--path` say the languages, where neither user nor data do."""
    path, given = getattr(options, "path", None), getattr(options, "source_lang", None)
    if getattr(options, "task", None) != TASK or not path or given or options.target_lang:
        return
    if len(_languages.in_folder(Path(utils.split_paths(options.data)[0]))) != 1:
        state = checkpoint_utils.load_checkpoint_to_cpu(utils.split_paths(path)[0])
        options.source_lang, options.target_lang = _languages.of_checkpoint(state)


def _help_at_last(modify_parser: ModifyParser | None) -> ModifyParser:
    """For fairseq, which calls it before it parses for the first time and for the second.

    At the first it does not know yet which model and task there are, and would print help without.
    """
    calls = itertools.count(1)

    def modify(parser: argparse.ArgumentParser) -> None:
        if modify_parser:
            modify_parser(parser)
        if next(calls) == 2:
            parser.print_help()
            parser.exit()

    return modify


def install() -> None:
    """Wraps fairseq's `parse_args_and_arch` once."""
    parse = options.parse_args_and_arch
    if getattr(parse, "brings_nart_defaults", False):
        return

    @functools.wraps(parse)
    def parse_with_defaults(
        parser: argparse.ArgumentParser,
        input_args: list[str] | None = None,
        parse_known: bool = False,
        suppress_defaults: bool = False,
        modify_parser: ModifyParser | None = None,
    ) -> Any:
        words = list(sys.argv[1:] if input_args is None else input_args)
        if not suppress_defaults:  # there only what the user typed may override a checkpoint
            words = with_defaults(parser, words)
        arch = parser._option_string_actions.get("--arch")
        # Without a model fairseq cannot go on, and prints what it has.
        known = arch is None or arch.default or _value(words, ("--arch", "-a"))
        if known and HELP & set(words):
            words = [word for word in words if word not in HELP]
            modify_parser = _help_at_last(modify_parser)
        parsed = parse(parser, words, parse_known, suppress_defaults, modify_parser)
        take_languages(parsed[0] if isinstance(parsed, tuple) else parsed)
        return parsed

    parse_with_defaults.brings_nart_defaults = True  # type: ignore[attr-defined]
    options.parse_args_and_arch = parse_with_defaults

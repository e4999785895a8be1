"""Gives our architectures default values for task, criterion, optimiser and schedule.

fairseq has its own defaults for `--task` and `--criterion`. After it has imported our package, and
before it parses the command line, we put our words in front of the user's. The user's words come
later and override ours; an option such as `--optimizer` also removes the words that belong to our
default. `--help` is delayed until fairseq has added the options of model and task.
"""

import argparse
import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils, options, utils

from fairseq_nart.data import languages
from fairseq_nart.errors import UserError
from fairseq_nart.models._registry import TASK, flags, training_defaults

HELP = {"-h", "--help"}

ModifyParser = Callable[[argparse.ArgumentParser], None]


def _given(words: list[str], option: str) -> bool:
    return any(word == option or word.startswith(option + "=") for word in words)


def _value(words: list[str], names: tuple[str, ...]) -> str | None:
    """The value of the last of the options `names` on the command line, or None."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(*names, dest="value")
    return str(value) if (value := parser.parse_known_args(words)[0].value) else None


def with_defaults(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """The command line `words` with our defaults in front.

    `parser` is fairseq's. Our task replaces the default task translation, or None in
    fairseq-validate, whose batches get the default size of fairseq-generate's. UserError if the
    best checkpoint is chosen by BLEU, but BLEU is not computed.
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
            raise UserError("--best-checkpoint-metric bleu: validation needs --eval-bleu too")
    return added + words


def take_languages(options: argparse.Namespace) -> None:
    """Takes the languages from the checkpoint of `--path` if neither user nor data give them."""
    path, given = getattr(options, "path", None), getattr(options, "source_lang", None)
    if getattr(options, "task", None) != TASK or not path or given or options.target_lang:
        return
    if len(languages.in_folder(Path(utils.split_paths(options.data)[0]))) != 1:
        state = checkpoint_utils.load_checkpoint_to_cpu(utils.split_paths(path)[0])
        options.source_lang, options.target_lang = languages.of_checkpoint(state)


def _complete(
    modify_parser: ModifyParser | None, arch: str | None, prints_help: bool
) -> ModifyParser:
    """A `modify_parser` for fairseq, which calls it before its first and before its second parsing.

    Only the second time are the options of model and task known. Then it adds a `--no-` form of the
    flags that the architecture switches on, and prints the help if requested.
    """
    calls = itertools.count(1)

    def modify(parser: argparse.ArgumentParser) -> None:
        if modify_parser:
            modify_parser(parser)
        if next(calls) < 2:
            return
        for flag in flags(arch):
            name = flag.removeprefix("--")
            parser.add_argument(
                f"--no-{name}",
                dest=name.replace("-", "_"),
                action="store_false",
                help=f"switch {flag} off, which {arch} switches on",
            )
        if prints_help:
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
        if not suppress_defaults:  # else only the user's own words may override a checkpoint
            words = with_defaults(parser, words)
        option, arch = parser._option_string_actions.get("--arch"), _value(words, ("--arch", "-a"))
        # Without a model fairseq cannot continue, and prints the help that it has.
        known = option is None or option.default or arch
        asked = bool(known and HELP & set(words))
        if asked:
            words = [word for word in words if word not in HELP]
        modify_parser = _complete(modify_parser, arch, asked)
        parsed = parse(parser, words, parse_known, suppress_defaults, modify_parser)
        take_languages(parsed[0] if isinstance(parsed, tuple) else parsed)
        return parsed

    parse_with_defaults.brings_nart_defaults = True  # type: ignore[attr-defined]
    options.parse_args_and_arch = parse_with_defaults

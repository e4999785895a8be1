"""Decoding options of an exported model, which only its folder knows."""

import argparse
import contextlib
import math

from fairseq_nart.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --option."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a decoding option of the model, such as length_candidates=9; its README.md lists "
        "them. Can be repeated",
    )


def decoding(options: argparse.Namespace) -> dict[str, int | float | bool | str]:
    """The values given by --option. UserError for one without a value."""
    return dict(map(_value, options.option))


def _value(words: str) -> tuple[str, int | float | bool | str]:
    name, equals, value = words.partition("=")
    if not equals:
        raise UserError(f"--option {words} must be NAME=VALUE, such as length_candidates=9")
    name = name.replace("-", "_")
    known: dict[str, bool] = {"true": True, "false": False}
    if value.lower() in known:
        return name, known[value.lower()]
    return name, number_in(value)


def number_in(word: str) -> int | float | str:
    """The finite number that is written as `word`, if it is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            number: int | float = kind(word)
            if math.isfinite(number):
                return number
    return word

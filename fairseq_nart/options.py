"""Checks option values against the bounds in the metadata of dataclass fields. Needs no torch.

`at least`, `at most` and `below` bound a number. An enumeration allows its members.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from enum import EnumType
from typing import Any

from fairseq_nart.errors import UserError

_BOUNDS = {"at least": operator.ge, "at most": operator.le, "below": operator.lt}


def require_in_range(options: Any, kind: type) -> None:
    """Checks the values of `options`, which has the fields of the dataclass `kind`.

    UserError names the first option that is not an allowed choice, not finite or out of bounds.
    """
    for option in fields(kind):
        value = getattr(options, option.name)
        require_allowed(option.name, value, choices_of(option), bounds_of(option))


def require_positive(options: Any, *names: str) -> None:
    """UserError for the first of the options `names` that is below 1."""
    for name in names:
        require_allowed(name, getattr(options, name), (), {"at least": 1})


def require_default(options: Any, names: Iterable[str], why: str) -> None:
    """UserError for the first of the `names` whose option in the dataclass `options` is set.

    `why` completes the message, such as "needs a teacher: leave it out".
    """
    for name in names:
        if getattr(options, name) != getattr(type(options), name):
            raise UserError(f"{typed(name)} {why}")


def choices_of(option: "Field[Any]") -> list[Any]:
    """The values that an option may have, if its type is an enumeration."""
    kind: Any = option.type
    return list(kind) if isinstance(kind, EnumType) else []


def bounds_of(option: "Field[Any]") -> dict[str, float]:
    """The bounds of a number by their words."""
    return {words: option.metadata[words] for words in _BOUNDS if words in option.metadata}


def require_allowed(
    name: str, value: Any, choices: Sequence[Any], bounds: Mapping[str, float]
) -> None:
    """UserError if the value is not one of `choices`, if there are any, or out of `bounds`."""
    if choices and value not in choices:
        known = ", ".join(map(str, choices))
        raise UserError(f"{typed(name)} must be one of {known}, not {value!r}")
    if isinstance(value, (list, tuple)):
        for one in value:
            require_allowed(name, one, choices, bounds)
    if not isinstance(value, (int, float)):
        return
    inside = all(_BOUNDS[words](value, bound) for words, bound in bounds.items())
    if not (math.isfinite(value) and inside):
        range_ = " and ".join(f"{words} {bound}" for words, bound in bounds.items())
        wanted = range_ if math.isfinite(value) else f"a finite number {range_}".strip()
        raise UserError(f"{typed(name)} must be {wanted}, not {value}")


def typed(name: str) -> str:
    """The option `name` as typed on the command line: "ctc_beam" -> "--ctc-beam"."""
    return f"--{name.replace('_', '-')}"

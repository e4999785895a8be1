"""Checks option values against the bounds in the metadata of dataclass fields. Needs no torch.

`at least`, `at most` and `below` bound a number. An enumeration allows its members.
"""

import math
import operator
from dataclasses import fields
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
        choices: Any = option.type if isinstance(option.type, EnumType) else ()
        if choices and value not in list(choices):
            known = ", ".join(map(str, choices))
            raise UserError(f"{typed(option.name)} must be one of {known}, not {value!r}")
        if not isinstance(value, (int, float)):
            continue
        bounds = {words: option.metadata[words] for words in _BOUNDS if words in option.metadata}
        inside = all(_BOUNDS[words](value, bound) for words, bound in bounds.items())
        if not (math.isfinite(value) and inside):
            range_ = " and ".join(f"{words} {bound}" for words, bound in bounds.items())
            wanted = range_ if math.isfinite(value) else f"a finite number {range_}".strip()
            raise UserError(f"{typed(option.name)} must be {wanted}, not {value}")


def typed(name: str) -> str:
    """The option `name` as typed on the command line: "ctc_beam" -> "--ctc-beam"."""
    return f"--{name.replace('_', '-')}"

"""Builds dataclasses from JSON or TOML and checks the types of their fields."""

import dataclasses
import types
import typing
from typing import Any, Literal

from fairseq_nart.errors import UserError


def build(kind: type, content: dict[str, Any]) -> Any:
    """An object of the dataclass `kind`; UserError names a missing, unknown or mistyped field."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(content.keys() - fields.keys()):
        raise UserError(f"unknown field {unknown[0]!r}")
    for name, field in fields.items():
        missing = dataclasses.MISSING
        if name not in content and field.default is missing and field.default_factory is missing:
            raise UserError(f"field {name!r} is missing")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(name, value, hints[name]) for name, value in content.items()})


def _value(name: str, value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return build(hint, value)
    if not _fits(value, hint):
        plain = isinstance(hint, type) and not typing.get_args(hint)
        wanted = hint.__name__ if plain else str(hint).removeprefix("typing.")
        raise UserError(f"field {name!r} must be {wanted}, not {str(value)[:60]!r}")
    return value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON has this type; an integer also counts as a float."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)

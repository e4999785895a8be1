"""Evaluates options given as text without running code.

fairseq passes several options to ``eval``. Some are read from a checkpoint when its model is built
(``adaptive_softmax_cutoff`` of every Transformer, the layers of fconv), so even a checkpoint of
plain data could run code. fairseq's modules get an ``eval`` that only computes values; it shadows
the builtin inside those modules and nowhere else.
"""

import ast
import importlib
import operator
import sys
from collections.abc import Callable
from typing import Any

from fairseq_nart.errors import UserError

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def evaluate(source: str) -> Any:
    """The value of a literal, or of ``+``, ``-``, ``*`` and ``/`` between literals.

    Repetition and joining are needed because layer specifications look like
    ``[(512, 3)] * 20 + [(1024, 1)]``.
    """
    if not isinstance(source, str):  # fairseq's eval_bool relies on this class
        raise TypeError(f"expected the text of a value, found {source!r}")
    try:
        return _value(ast.parse(source.strip(), mode="eval").body)
    except SyntaxError as error:
        raise UserError(f"not a plain value: {source!r}") from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value, node.values), strict=True))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise UserError(f"not a plain value: {ast.unparse(node)!r}; options may not hold code")


def forbid_code_in_options() -> None:
    """Give fairseq's modules an ``eval`` that only computes values."""
    importlib.import_module("fairseq")  # imports all its models, tasks and criterions
    for name, module in list(sys.modules.items()):
        if name.startswith("fairseq.") and module is not None:
            vars(module).setdefault("eval", evaluate)

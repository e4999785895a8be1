"""Lets fairseq's NaN detector run on models whose modules do not return tensors.

When gradients are not finite, the trainer runs the batch again with hooks that name the layer. The
backward hooks are of torch's legacy kind, which supports only modules that return tensors or tuples
of them: for all others a TypeError replaces the message.
"""

import importlib
from collections.abc import Callable
from typing import Any

from fairseq_nart.compat._patch import wrap


def disable_backward_hooks() -> None:
    """Keep only the forward hooks. The detector still prints the norms of the gradients."""
    wrap(importlib.import_module("fairseq.trainer"), "NanDetector", _without_backward)


def _without_backward(original: Callable[..., Any], model: Any, *_: Any, **__: Any) -> Any:
    return original(model, forward=True, backward=False)

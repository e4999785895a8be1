"""Let fairseq's NaN detector look at models whose modules return more than tensors.

Where gradients are not finite the trainer runs the batch again with hooks that name the layer. The
backward ones are of torch's old kind, which takes the first item of what a module returns until it
is a tensor: on anything but tensors in tuples a TypeError takes the place of the message.
"""

import importlib
from collections.abc import Callable
from typing import Any

from fairseq_nart.compat._patch import wrap


def look_forward_only() -> None:
    """The forward hooks stay, and the norms of the gradients that the detector prints."""
    wrap(importlib.import_module("fairseq.trainer"), "NanDetector", _without_backward)


def _without_backward(original: Callable[..., Any], model: Any, *_: Any, **__: Any) -> Any:
    return original(model, forward=True, backward=False)

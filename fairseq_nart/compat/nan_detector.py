"""Reports where a number in training was not finite.

fairseq's message is "gradients are Nan/Inf", without the update and the sentences.

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


def name_batch() -> None:
    """Name the update and the sentences when gradients are not finite."""
    wrap(importlib.import_module("fairseq.trainer").Trainer, "train_step", _train_step)


def _train_step(
    original: Callable[..., Any], trainer: Any, samples: list[Any], *args: Any, **kwargs: Any
) -> Any:
    try:
        return original(trainer, samples, *args, **kwargs)
    except FloatingPointError as error:
        if str(error) != "gradients are Nan/Inf":
            raise
        ids = [sample["id"].tolist() for sample in samples if sample]
        raise FloatingPointError(
            f"update {trainer.get_num_updates() + 1}: the gradients are not finite on the "
            f"sentences {', '.join(map(str, ids))} (line numbers of the data set, from 0): lower "
            "--lr, set --clip-norm, or look at these lines; the last checkpoint is untouched"
        ) from error


def _without_backward(original: Callable[..., Any], model: Any, *_: Any, **__: Any) -> Any:
    return original(model, forward=True, backward=False)

"""Finds what the options in a checkpoint would make fairseq read from this machine.

The options are those of the training run, on the machine of whoever made the checkpoint. When a
model is rebuilt, fairseq opens the files that some of them name, and omegaconf replaces
``${oc.env:NAME}`` by an environment variable. Neither is needed to load a trained model.
"""

import argparse
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

UNNEEDED = ("encoder_embed_path", "decoder_embed_path")
"""Embeddings that training began with: the checkpoint has the trained ones."""

NEEDED = ("pretrained_checkpoint", "pretrained_xlm_checkpoint")
"""Checkpoints from which a model of ``fconv_self_att`` or ``transformer_from_pretrained_xlm`` is
rebuilt."""

_LOOKUP = re.compile(r"\$\{\s*[\w.]+\s*:[^}]*\}?")


def lookup_in(options: Any) -> str | None:
    """The first ``${NAME:...}`` in a checkpoint's options, or None.

    fairseq itself writes only ``${NAME}``, a reference to another option, and only in old versions.
    """
    for text in _texts(options):
        if found := _LOOKUP.search(text):
            return found[0]
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, argparse.Namespace):
        yield from _texts(vars(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        for item in value:
            yield from _texts(item)


def clear_unneeded(state: dict[str, Any], given: Collection[str]) -> dict[str, str]:
    """Set the options ``UNNEEDED`` to None, except those that the user has `given`.

    Returns what they named.
    """
    cleared = {}
    for model in _models(state):
        for option in UNNEEDED:
            if option not in given and (value := getattr(model, option, None)):
                cleared[option] = str(value)
                setattr(model, option, None)
    return cleared


def needed(state: dict[str, Any], given: Collection[str]) -> dict[str, str]:
    """What the options ``NEEDED`` name, except those that the user has `given`."""
    return {
        option: str(value)
        for model in _models(state)
        for option in NEEDED
        if option not in given and (value := getattr(model, option, None))
    }


def _models(state: dict[str, Any]) -> list[Any]:
    """The model's options of a loaded checkpoint, in old and new formats."""
    config = state.get("cfg") or {}
    models = [state.get("args"), *(config[name] for name in ("model",) if name in config)]
    return [options for options in models if options is not None]

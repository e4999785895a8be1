"""``--bf16`` means bfloat16 numbers, not a TPU.

``options.parse_args_and_arch`` sets ``tpu`` whenever ``bf16`` is set. Without a TPU training
then fails on the CPU (``xla_device`` of None) and leaves a GPU unused.
"""

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from fairseq_nart.compat._patch import wrap


def separate_bf16_from_tpu() -> None:
    """Mend ``parse_args_and_arch``; every caller reaches it through its module.

    The user directory is imported by ``get_parser``, before the programs call this function.
    """
    wrap(importlib.import_module("fairseq.options"), "parse_args_and_arch", _parse)


def _parse(
    original: Callable[..., Any],
    parser: argparse.ArgumentParser,
    input_args: Sequence[str] | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    parsed = original(parser, input_args, *args, **kwargs)
    options = parsed[0] if isinstance(parsed, tuple) else parsed
    if getattr(options, "bf16", False) and getattr(options, "tpu", False):
        # Parse once more to learn what was asked for, before fairseq's own additions.
        asked, _ = parser.parse_known_args(input_args)
        options.tpu = bool(getattr(asked, "tpu", False))
    return parsed

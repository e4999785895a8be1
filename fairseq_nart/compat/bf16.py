"""``--bf16`` means bfloat16 numbers, not a TPU.

``options.parse_args_and_arch`` sets ``tpu`` whenever ``bf16`` is set. Without a TPU training
then fails on the CPU (``xla_device`` of None) and leaves a GPU unused. And the optimizer goes
through the parameters one by one, as is best on a TPU: a third of the kernels of an update.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fairseq_nart.compat._patch import wrap
from fairseq_nart.compat.programs import refuse_what_fails


def separate_bf16_from_tpu() -> None:
    """Mend ``parse_args_and_arch``; every caller reaches it through its module. On a GPU all
    parameters are one to the optimizer, as ``--fp16`` has them.

    The user directory is imported by ``get_parser``, before the programs call this function.
    """
    wrap(importlib.import_module("fairseq.options"), "parse_args_and_arch", _parse)
    optimizer = importlib.import_module("fairseq.optim.fp16_optimizer").FP16Optimizer
    wrap(optimizer, "build_optimizer", _build_optimizer)


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
    refuse_what_fails(parser, sys.argv[1:] if input_args is None else input_args, options)
    return parsed


def _build_optimizer(original: Callable[..., Any], cfg: Any, params: Any, **kwargs: Any) -> Any:
    common, params = cfg.common, list(params)
    apart = common.tpu or common.fp16_no_flatten_grads or not all(p.is_cuda for p in params)
    if common.bf16 and not apart:
        flat = _flat_optimizer(cfg, params, **kwargs)
        if flat.fp32_optimizer.supports_flat_params:
            return flat
    return original(cfg, params, **kwargs)


def _flat_optimizer(cfg: Any, params: list[Any], **kwargs: Any) -> Any:
    """As the original builds it for ``--fp16``, but without a scale of the loss."""
    optim = importlib.import_module("fairseq.optim")
    flat = optim.FP16Optimizer.build_fp32_params(cfg.optimizer, params, flatten=True)
    optimizer = optim.build_optimizer(cfg.optimizer, [flat])
    return optim.FP16Optimizer(cfg, params, optimizer, flat, **kwargs)

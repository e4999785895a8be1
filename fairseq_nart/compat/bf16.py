"""Makes ``--bf16`` mean bfloat16 arithmetic, not a TPU.

``options.parse_args_and_arch`` sets ``tpu`` whenever ``bf16`` is set. Without a TPU, training
then fails on the CPU (``xla_device`` of None) and leaves a GPU unused. The optimizer also updates
parameters one by one, which suits a TPU but makes up a third of the kernels of an update on a GPU.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fairseq_nart.compat._patch import wrap
from fairseq_nart.compat.programs import refuse_what_fails


def separate_bf16_from_tpu() -> None:
    """Fix ``parse_args_and_arch``, and flatten the parameters on a GPU, as ``--fp16`` does.

    Every caller looks the function up in its module. ``get_parser`` imports the user directory
    before the programs call it.
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
        # Parse again to see whether the user gave --tpu: fairseq has overwritten the value.
        typed, _ = parser.parse_known_args(input_args)
        options.tpu = bool(getattr(typed, "tpu", False))
    refuse_what_fails(parser, sys.argv[1:] if input_args is None else input_args, options)
    return parsed


def _build_optimizer(original: Callable[..., Any], cfg: Any, params: Any, **kwargs: Any) -> Any:
    common, params = cfg.common, list(params)
    separate = common.tpu or common.fp16_no_flatten_grads or not all(p.is_cuda for p in params)
    if common.bf16 and not separate:
        flat = _flat_optimizer(cfg, params, **kwargs)
        if flat.fp32_optimizer.supports_flat_params:
            return flat
    return original(cfg, params, **kwargs)


def _flat_optimizer(cfg: Any, params: list[Any], **kwargs: Any) -> Any:
    """The optimizer that fairseq builds for ``--fp16``, but without loss scaling."""
    optim = importlib.import_module("fairseq.optim")
    flat = optim.FP16Optimizer.build_fp32_params(cfg.optimizer, params, flatten=True)
    optimizer = optim.build_optimizer(cfg.optimizer, [flat])
    return optim.FP16Optimizer(cfg, params, optimizer, flat, **kwargs)

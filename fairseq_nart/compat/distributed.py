"""Makes training in several CPU processes work, or refuses it before training starts.

In fairseq, ``torchrun`` starts independent training runs that write to one directory;
``--distributed-world-size 2`` spawns nothing or fails on an assertion; ``pytorch_ddp``, the
default, passes device numbers to a model on the CPU; and resuming fails on every process but the
first.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from fairseq_nart.compat import safe_types
from fairseq_nart.compat._patch import wrap
from fairseq_nart.errors import UserError

logger = logging.getLogger(__name__)

_TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
_ADVICE = (
    "To train in N processes on the CPU, start them with\n"
    "  torchrun --nproc_per_node N --no-python fairseq-train ... --cpu\n"
    "or start each rank R of the N yourself with\n"
    "  fairseq-train ... --cpu --distributed-no-spawn --distributed-rank R"
    " --distributed-world-size N --distributed-init-method tcp://HOST:PORT"
    " --distributed-backend gloo\n"
    "To train in one process, give --distributed-world-size 1."
)


def fix_launching() -> None:
    """Fix ``call_main``, with which every program starts its work in one or more processes."""
    wrap(importlib.import_module("fairseq.distributed.utils"), "call_main", _call_main)


def _call_main(original: Callable[..., Any], cfg: Any, main: Any, **kwargs: Any) -> Any:
    if not cfg.common.tpu:
        _join_torchrun(cfg.distributed_training)
        if cfg.common.cpu or not torch.cuda.is_available():
            _prepare_cpu(cfg.distributed_training)
    return original(cfg, main, **kwargs)


def _join_torchrun(options: Any) -> None:
    """Take the number of processes from torchrun.

    fairseq reads torchrun's environment only if the option is above 1, and the option defaults to
    the number of GPUs: with no GPU or one, each process would train alone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    launched = size > 1 and ("RANK" in os.environ or "LOCAL_RANK" in os.environ)
    if not launched or options.distributed_init_method is not None:
        return
    missing = [name for name in _TORCHRUN if name not in os.environ]
    if missing and options.distributed_world_size == 1:
        raise UserError(
            f"WORLD_SIZE is {size} but {', '.join(missing)} is not set: each process would "
            f"train alone and overwrite the others' checkpoints. {_ADVICE}"
        )
    if not missing:
        options.distributed_world_size = size


def _prepare_cpu(options: Any) -> None:
    """Set the options that CPU processes need, or refuse those that cannot work."""
    if options.distributed_world_size == 1:
        return
    size = str(options.distributed_world_size)
    launched = all(name in os.environ for name in _TORCHRUN) and os.environ["WORLD_SIZE"] == size
    if options.distributed_init_method is None and launched:
        # As fairseq does for torchrun, without the GPU number, which it computes modulo 0 here.
        options.distributed_init_method = "env://"
        options.distributed_rank = int(os.environ["RANK"])
        options.distributed_no_spawn = True
    elif options.distributed_init_method is None and not _asked_for("--distributed-world-size"):
        # The default is the number of GPUs, which --cpu does not use.
        logger.info("training on the CPU in one process (--distributed-world-size 1)")
        options.distributed_world_size = 1
        return
    if options.distributed_init_method is None or not options.distributed_no_spawn:
        raise UserError(
            f"--distributed-world-size {options.distributed_world_size} on the CPU: fairseq "
            f"starts processes for GPUs only, so none would be started. {_ADVICE}"
        )
    options.device_id = 0
    if options.distributed_backend == "nccl":  # the default, for GPUs only
        logger.info("processes on the CPU: using --distributed-backend gloo instead of nccl")
        options.distributed_backend = "gloo"


def _asked_for(option: str) -> bool:
    return any(argument.split("=")[0] == option for argument in sys.argv)


def fix_pytorch_ddp_on_cpu() -> None:
    """Pass no device numbers to torch's DDP for a model on the CPU: it refuses them."""
    module = importlib.import_module("fairseq.models.distributed_fairseq_model")
    wrap(module, "DistributedDataParallel", _data_parallel)


def _data_parallel(original: Callable[..., Any], module: torch.nn.Module, **kwargs: Any) -> Any:
    if all(parameter.device.type == "cpu" for parameter in module.parameters()):
        kwargs.update(device_ids=None, output_device=None)
    return original(module=module, **kwargs)


def fix_broadcast() -> None:
    """Let the first process send the checkpoint that it has read to the others.

    fairseq sends it with ``torch.save`` and ``torch.load``, and it holds omegaconf options by
    then. Their types are allowed in such messages only, not in files.
    """
    wrap(importlib.import_module("fairseq.distributed.utils"), "_broadcast_object_slow", _broadcast)


def _broadcast(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with torch.serialization.safe_globals(safe_types.in_messages()):
        return original(*args, **kwargs)

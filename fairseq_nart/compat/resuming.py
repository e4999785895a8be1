"""Makes a training run that was interrupted end like one that was not.

fairseq makes the batches once, with a seed that depends on the epoch: a run that is resumed in
epoch 2 has other batches than before. With ``--bf16`` and ``--fp16`` it saves the rounded weights,
and the optimizer's own, in fp32, are lost. A run that was finished makes one update more each time
its command is repeated, and ``--patience`` counts from zero again.
"""

import importlib
import inspect
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fairseq_nart.compat._patch import wrap
from fairseq_nart.compat.programs import loaded

logger = logging.getLogger(__name__)

_FP32_PARAMS = "fp32_params"
"""Entry of an optimizer's state: its weights in fp32, in their order."""

_PATIENCE = "patience"
"""Entry of a checkpoint's extra state: what ``--patience`` compares and counts."""


def fix_resuming() -> None:
    """Fix the batches, the optimizer of half precision, the trainer and, if loaded, the program."""
    task = importlib.import_module("fairseq.tasks.fairseq_task").FairseqTask
    wrap(task, "get_batch_iterator", _get_batch_iterator)
    optimizer = importlib.import_module("fairseq.optim.fp16_optimizer")._FP16OptimizerMixin
    wrap(optimizer, "state_dict", _with_fp32_params)
    wrap(optimizer, "load_state_dict", _load_fp32_params)
    trainer = importlib.import_module("fairseq.trainer").Trainer
    wrap(trainer, "save_checkpoint", _save_patience)
    wrap(trainer, "load_checkpoint", _load_patience)
    for program in loaded("train"):
        wrap(program, "train", _train)


def _get_batch_iterator(
    original: Callable[..., Any], task: Any, dataset: Any, *args: Any, **kwargs: Any
) -> Any:
    """Make the batches as in epoch 1 if they serve for all epochs; the trainer sets the epoch."""
    options = inspect.signature(original).bind(task, dataset, *args, **kwargs)
    options.apply_defaults()
    given = options.arguments
    anew = given["disable_iterator_cache"] or given["update_epoch_batch_itr"]
    if anew or not task.can_reuse_epoch_itr(dataset):
        return original(*options.args, **options.kwargs)
    epoch, given["epoch"] = given["epoch"], 1
    iterator = original(*options.args, **options.kwargs)
    dataset.set_epoch(epoch)
    return iterator


def _fp32_params(optimizer: Any) -> list[Tensor]:
    params = optimizer.fp32_params
    if torch.is_tensor(params):
        return [params]
    return list(params.values() if isinstance(params, dict) else params)


def _with_fp32_params(original: Callable[..., Any], optimizer: Any) -> Any:
    return {**original(optimizer), _FP32_PARAMS: [p.data for p in _fp32_params(optimizer)]}


def _load_fp32_params(
    original: Callable[..., Any], optimizer: Any, state: dict[str, Any], *args: Any, **kwargs: Any
) -> Any:
    """Restore the weights, unless another version of fairseq or of this package saved them."""
    state = dict(state)
    saved, own = state.pop(_FP32_PARAMS, []), _fp32_params(optimizer)
    result = original(optimizer, state, *args, **kwargs)
    if [x.shape for x in saved] == [x.shape for x in own]:
        with torch.no_grad():
            for parameter, value in zip(own, saved, strict=True):
                parameter.data.copy_(value)
    else:
        logger.warning(
            "the checkpoint has no weights in fp32: training resumes from rounded ones, and will "
            "not be exactly as if it had not been interrupted"
        )
    return result


def _save_patience(
    original: Callable[..., Any], trainer: Any, filename: str, extra_state: dict[str, Any]
) -> Any:
    counted = [vars(program.should_stop_early) for program in loaded("train")]
    more = {_PATIENCE: dict(counted[0])} if counted and counted[0] else {}
    return original(trainer, filename, {**extra_state, **more})


def _load_patience(
    original: Callable[..., Any],
    trainer: Any,
    filename: str,
    reset_optimizer: bool = False,
    reset_lr_scheduler: bool = False,
    optimizer_overrides: Any = None,
    reset_meters: bool = False,
) -> Any:
    """Restore what ``--patience`` counted, under the same options as the best score.

    The learning rate's schedule gets the validation loss of an epoch after the epoch's checkpoint
    is saved, so it gets it again.
    """
    extra_state = original(
        trainer, filename, reset_optimizer, reset_lr_scheduler, optimizer_overrides, reset_meters
    )
    if extra_state is not None and not reset_optimizer and not reset_meters:
        for program in loaded("train"):
            vars(program.should_stop_early).update(extra_state.get(_PATIENCE, {}))
    if extra_state is not None and not reset_optimizer and not reset_lr_scheduler:
        place, loss = extra_state["train_iterator"], extra_state.get("val_loss")
        if loss is not None and place["epoch"] > 1 and not place.get("iterations_in_epoch", 1):
            trainer.lr_step(place["epoch"] - 1, loss)
    return extra_state


def _train(
    original: Callable[..., Any], cfg: Any, trainer: Any, task: Any, epoch_itr: Any
) -> tuple[list[float | None], bool]:
    """Train for an epoch, unless the run has already reached its end."""
    updates, patience = trainer.get_num_updates(), cfg.checkpoint.patience
    waited = max((getattr(x.should_stop_early, "num_runs", 0) for x in loaded("train")), default=0)
    finished = 0 < cfg.optimization.max_update <= updates or 0 < patience <= waited
    if not finished:
        result: tuple[list[float | None], bool] = original(cfg, trainer, task, epoch_itr)
        return result
    logger.info("training was finished after %d updates: nothing to do", updates)
    return [None], True

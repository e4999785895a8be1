"""Writes checkpoints atomically, with a clear error when one cannot be written.

fairseq overwrites ``checkpoint_last.pt`` in place: an interrupted copy loses the checkpoint and
with it the training run. On a full disk it tries three times, leaves a partial file and ends with
a torch error that does not mention the disk.
"""

import contextlib
import errno
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from fairseq_nart.compat._patch import wrap
from fairseq_nart.files import replacing


def save_checkpoint(state: dict[str, Any], file: str | os.PathLike[str]) -> None:
    """Write a checkpoint. On failure, OSError gives the reason and an older file is kept."""
    # torch's own stream would hide the system's error.
    with _explained(file) as temporary, open(temporary, "wb") as stream:
        torch.save(state, stream)


def fix_fairseq_saving() -> None:
    """Make fairseq's own saving and copying atomic too."""
    wrap(importlib.import_module("fairseq.file_io").PathManager, "copy", _copy)
    utils: Any = importlib.import_module("fairseq.checkpoint_utils")
    wrap(utils, "torch_persistent_save", _save)
    wrap(utils, "load_checkpoint", _resume)


def _copy(
    original: Callable[..., Any], src_path: str, dst_path: str, overwrite: bool = False
) -> Any:
    if "://" in dst_path:  # other addresses belong to fairseq's path manager
        return original(src_path, dst_path, overwrite=overwrite)
    with _explained(dst_path) as temporary:
        return original(src_path, str(temporary), overwrite=True)


def _save(
    original: Callable[..., Any], state: Any, filename: str, async_write: bool = False
) -> Any:
    if async_write or "://" in filename:
        return original(state, filename, async_write=async_write)
    return save_checkpoint(state, filename)


def _resume(original: Callable[..., Any], cfg: Any, trainer: Any, **kwargs: Any) -> Any:
    """Remove the parts of checkpoints that a killed training run has left, and resume."""
    if trainer.data_parallel_rank == 0 and "://" not in cfg.save_dir:
        for part in Path(cfg.save_dir).glob("checkpoint*.pt.tmp"):
            part.unlink(missing_ok=True)
    return original(cfg, trainer, **kwargs)


@contextlib.contextmanager
def _explained(file: str | os.PathLike[str]) -> Iterator[Path]:
    """Like `replacing`; OSError names `file` and the system's reason."""
    try:
        with replacing(Path(file)) as temporary:
            yield temporary
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full: free space on it" if full else cause.strerror or str(cause)
        raise OSError(f"{os.fspath(file)}: the checkpoint cannot be written ({reason})") from error

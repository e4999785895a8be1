"""Write checkpoints whole or not at all, and say plainly why one cannot be written.

fairseq writes ``checkpoint_last.pt`` over the old one, which is lost when the copy is cut, and the
training with it. On a full disk it tries three times into one file, leaves what it wrote and ends
with an error of torch's that does not name the disk.
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
    """Write a checkpoint. OSError says why it cannot be written; an older file then stays."""
    # Through a stream of Python's, because torch's own hides the error of the system.
    with _explained(file) as temporary, open(temporary, "wb") as stream:
        torch.save(state, stream)


def mend_fairseq_saving() -> None:
    """Give fairseq's own saving and copying the same care."""
    wrap(importlib.import_module("fairseq.file_io").PathManager, "copy", _copy)
    wrap(importlib.import_module("fairseq.checkpoint_utils"), "torch_persistent_save", _save)


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


@contextlib.contextmanager
def _explained(file: str | os.PathLike[str]) -> Iterator[Path]:
    """As `replacing`; OSError names `file` and what the system refused."""
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

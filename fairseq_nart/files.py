"""Atomic writes, file locks and hashes."""

import contextlib
import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from fairseq_nart.errors import UserError


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yields a temporary path. It is renamed to `file` if the block succeeds, else deleted.

    UserError if another process is writing the same file.
    """
    temporary = file.with_name(f"{file.name}.tmp")
    with open(temporary, "ab") as stream:
        claim(stream)
        try:
            yield temporary
            os.replace(temporary, file)
        except BaseException:  # after a success, another process may already use the name
            temporary.unlink(missing_ok=True)
            raise


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Writes `content` as indented JSON and keeps the order of its keys."""
    with replacing(file) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(file: Path) -> dict[str, Any] | None:
    """The content of a JSON file, or None if it does not exist. UserError if it is damaged."""
    if not file.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}): delete it and start again") from error
    return content


def read_arrays(file: Path, **options: Any) -> Any:
    """What `numpy.load` reads from an .npy or .npz file; it may hold numbers only.

    UserError if the file is damaged, or holds Python objects, which could run code.
    """
    import numpy as np  # imported here, because most of what uses this module does not need it

    try:
        return np.load(file, allow_pickle=False, **options)
    except (ValueError, EOFError, SyntaxError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file} is refused, because it is not an array of numbers: {error}. It was not read: "
            "make it again, or copy it from a source you trust"
        ) from error


def sha256(*files: Path) -> str:
    """Hexadecimal SHA-256 of the concatenated contents of `files`."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def sha256_of_test(sources: Sequence[str], references: Sequence[str]) -> str:
    """Hexadecimal SHA-256 of a test set: all sources, then all references, one per line."""
    digest = hashlib.sha256()
    for line in (*sources, *references):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Lets one process at a time run the block; others wait."""
    with open(file, "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def claim(stream: IO[bytes]) -> None:
    """Locks an open file until it is closed. UserError if another process has locked it."""
    _claim(stream.fileno(), f"{stream.name}: another process is writing this file")


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Locks `folder` during the block. UserError if another process is writing to it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _claim(
            descriptor, f"{folder}: another process is writing to this folder: wait until it ends"
        )
        yield
    finally:
        os.close(descriptor)


def _claim(descriptor: int, message: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(message) from error

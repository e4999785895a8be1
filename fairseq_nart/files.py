"""Files that are whole or not there: written beside their place and moved in one step."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path to write to; it becomes `file` when the block ends well, and vanishes otherwise.

    ValueError where another process writes the same file.
    """
    temporary = file.with_name(f"{file.name}.tmp")
    with open(temporary, "ab") as stream:
        claim(stream)
        try:
            yield temporary
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Writes `content` in its order, readable for people."""
    with replacing(file) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(file: Path) -> dict[str, Any] | None:
    """The content of a JSON file, or None where there is no such file."""
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def sha256(*files: Path) -> str:
    """Hexadecimal SHA-256 of a file's content, or of several files' one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def sha256_of_test(sources: Sequence[str], references: Sequence[str]) -> str:
    """Hexadecimal SHA-256 of a test set's lines."""
    digest = hashlib.sha256()
    for line in (*sources, *references):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process at a time runs the block; others wait."""
    with open(file, "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def claim(stream: IO[bytes]) -> None:
    """Makes the open file ours until it is closed; ValueError where another process has it."""
    _claim(stream.fileno(), f"{stream.name}: another process is writing this file")


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """During the block this process alone writes to `folder`; ValueError where another one does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _claim(descriptor, f"{folder}: another process is writing to this folder: wait for its end")
        yield
    finally:
        os.close(descriptor)


def _claim(descriptor: int, otherwise: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(otherwise) from error

"""Finds tensors of an ONNX file that lie in another file.

ONNX lets a tensor name a file and a place in it. Versions of ONNX Runtime differ in which files
they then open; `fairseq-nart export` never writes such tensors. The `onnx` package is not needed
here: an ONNX file is a protobuf message, of which a few fields are read and the rest is skipped.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from fairseq_nart.errors import UserError

_LOCATION = 13
"""TensorProto's field external_data: keys and values, of which `location` is the path."""

# Message to its fields that hold messages, and theirs; the numbers are those of onnx.proto.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        **{5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
        **{22: "sparse", 23: "sparse"},
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {_LOCATION: "entry"},
}


def first_in(file: Path) -> str | None:
    """The path that the first such tensor names, or None. UserError if it is not an ONNX file."""
    if not file.stat().st_size:
        raise UserError(f"{file} cannot be loaded: it is empty: export the model again")
    with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return next(_named(data, 0, len(data), "model"), None)
        except (IndexError, RecursionError) as error:
            raise UserError(
                f"{file} cannot be loaded: it is no ONNX file, or damaged: export the model again"
            ) from error


def _named(data: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    """Yields the paths that the tensors of a message name."""
    for number, begin, stop in _fields(data, start, end):
        kind = _FIELDS[message].get(number)
        if kind == "entry":
            entry = {n: bytes(data[a:b]) for n, a, b in _fields(data, begin, stop)}
            if entry.get(1) == b"location":
                yield repr(entry.get(2, b"").decode("utf-8", "replace"))
        elif kind:
            yield from _named(data, begin, stop, kind)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The number of each field with a length, and where its content begins and ends.

    IndexError if the message is not well-formed.
    """
    while start < end:
        tag, start = _varint(data, start)
        number, wire = (tag & 0xFFFFFFFF) >> 3, tag & 7
        if wire == 0:
            _, start = _varint(data, start)
        elif wire in (1, 5):
            start += 8 if wire == 1 else 4
        elif wire == 2:
            length, start = _varint(data, start)
            if start + length > end:
                raise IndexError("a field is longer than its message")
            yield number, start, start + length
            start += length
        else:
            raise IndexError(f"unknown wire type {wire}")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
        if shift > 63:
            raise IndexError("a number has more than ten bytes")

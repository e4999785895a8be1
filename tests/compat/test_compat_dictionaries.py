"""Dictionaries are read as by fairseq, and an invalid line is reported."""

import importlib
from pathlib import Path
from typing import Any

import pytest

Dictionary: Any = importlib.import_module("fairseq.data").Dictionary
SPECIAL = 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a 1\nb 2\na 3\n", "line 3 repeats a word: 'a 3'"),
        (b"a 1\n<unk> 2\n", "line 2 repeats a word: '<unk> 2'"),
        (b"a 1\nb\n", "line 2 is not a word, a space and its count: 'b'"),
        (b"a 1\nb two\n", "line 2 is not a word, a space and its count: 'b two'"),
        (b"a 1\n\nb 2\n", "line 2 is not a word, a space and its count: ''"),
        (b"a 1\n\xff 1\n", "line 2 is not UTF-8"),
    ],
)
def test_invalid_lines_are_reported(text: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "dict.de.txt"
    file.write_bytes(text)
    with pytest.raises(ValueError, match=rf"dict\.de\.txt, {message}"):
        Dictionary.load(str(file))


def test_valid_files_are_read(tmp_path: Path) -> None:
    """Only a line feed ends a line, and a flag allows a repeated word."""
    file = tmp_path / "dict.de.txt"
    file.write_text("a 1\r\n\u2028b 2\na 5 #fairseq:overwrite\n", "utf-8")
    loaded = Dictionary.load(str(file))
    assert loaded.symbols[SPECIAL:] == ["a", "\u2028b", "a"] and loaded.count[SPECIAL:] == [1, 2, 5]
    loaded.save(str(tmp_path / "again"))
    with open(tmp_path / "again", encoding="utf-8") as stream:
        other = Dictionary()
        with pytest.raises(RuntimeError, match="Duplicate word"):
            other.add_from_file(stream)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Dictionary.load(str(tmp_path / "nowhere"))

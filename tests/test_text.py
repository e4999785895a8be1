"""Reading lines of text that is UTF-8, or not."""

import gzip
import io
import logging

import pytest

from fairseq_nart import text
from fairseq_nart.text import bounded_lines, chunks, decode_lines, read_lines

UMLAUTS = "Müller grüßt\n"
UTF16 = ("Hello World\nthe second line\n").encode("utf-16")
UTF16_WITHOUT_MARK = ("Hello World\n").encode("utf-16-le")


def test_lines_end_only_at_line_feeds(tmp_path):
    file = tmp_path / "text"
    text = "\ufeffeins\r\nzwei\rdrei\nvi\x0ber\x85\u2028\n\nfünf\ufeff"
    expected = ["eins", "zwei\rdrei", "vi\x0ber\x85\u2028", "", "fünf\ufeff"]
    file.write_bytes(text.encode())
    assert read_lines(file) == expected
    with open(file, "rb") as stream:
        assert list(decode_lines(stream, "x")) == expected
    with gzip.open(tmp_path / "text.gz", "wb") as stream:
        stream.write(text.encode())
    assert read_lines(tmp_path / "text.gz") == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            b"good\n" + UMLAUTS.encode("windows-1252"),
            "line 2 is not UTF-8 (byte 0xfc at position 2)",
        ),
        (UMLAUTS.encode("windows-1252"), "iconv -f WINDOWS-1252 -t UTF-8"),
        (UTF16, "iconv -f UTF-16 -t UTF-8"),
        (UTF16_WITHOUT_MARK, "line 1 is not UTF-8 (every second byte is NUL)"),
    ],
)
def test_invalid_utf8_is_reported(raw, message, tmp_path, caplog):
    file = tmp_path / "text"
    file.write_bytes(raw)
    with pytest.raises(ValueError) as error:
        read_lines(file)
    assert message in str(error.value) and str(error.value).startswith(f"{file}, line ")
    with caplog.at_level(logging.WARNING), open(file, "rb") as stream:
        lines = list(decode_lines([*stream, b"\xff\n", b"\xfe"], "standard input"))
    assert len(lines) == raw.count(b"\n") + (not raw.endswith(b"\n")) + 2
    assert lines[-1] == "\N{REPLACEMENT CHARACTER}"
    (record,) = caplog.records
    assert "standard input, line " in record.message and message in record.message


def test_nul_is_kept(tmp_path):
    (tmp_path / "text").write_bytes(b"one word\x00 more\n\x00\n")
    assert read_lines(tmp_path / "text") == ["one word\0 more", "\0"]


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: b"no gzip at all"])
def test_invalid_gzip_files_are_refused(damage, tmp_path):
    file = tmp_path / "text.gz"
    file.write_bytes(damage(gzip.compress(b"a line\n" * 99)))
    with pytest.raises(ValueError, match=r"text\.gz is not a complete gzip file"):
        read_lines(file)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_endless_lines_are_cut_after_a_word(end, monkeypatch, caplog):
    monkeypatch.setattr(text, "LONGEST", 8)
    lines = [b"eins\n", b"zwei drei vier fuenf\n", b"1234567\n", b"12345678\n", b"x" * 20 + end]
    found = list(bounded_lines(io.BytesIO(b"".join(lines)), "text"))
    assert found == [b"eins\n", b"zwei", b"1234567\n", b"12345678", b"x" * 8]
    cut = [record.getMessage() for record in caplog.records]
    assert cut == [f"text, line {n} is longer than 8 bytes: the rest is left out" for n in (2, 5)]


def test_chunks_hold_few_lines_and_characters(monkeypatch):
    monkeypatch.setattr(text, "_CHARACTERS", 5)
    assert list(chunks("a b c d".split(), 3)) == [["a", "b", "c"], ["d"]]
    assert list(chunks(["123", "456", "7", ""], 3)) == [["123", "456"], ["7", ""]]
    assert list(chunks([], 3)) == []

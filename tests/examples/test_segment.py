"""Segmentation of text, and inputs that are refused."""

import codecs
import gzip
import shutil
from pathlib import Path

import pytest
import toys
from texts import segment, write_teacher_folder


def test_sides_of_different_length_are_refused(tmp_path):
    for name, lines in (("train.de", "a\nb\n"), ("train.en", "a\n")):
        (tmp_path / name).write_text(lines)
    done = segment(tmp_path, tmp_path / "out", "--languages", "de", "en", "--splits", "train")
    assert done.returncode != 0 and "train: 2 lines on one side, 1 on the other" in done.stderr


def options_for(tmp_path, *splits):
    """Options for text in `tmp_path`, with a sentencepiece model."""
    model = write_teacher_folder(tmp_path / "teacher") / "sentencepiece.model"
    return (
        tmp_path,
        tmp_path / "out",
        "--languages",
        "de",
        "en",
        "--splits",
        *splits,
        "--model",
        model,
    )


def test_lines_end_only_at_line_feeds(tmp_path):
    (tmp_path / "test.1.de").write_bytes(b"a\rb\r\nc\n")
    (tmp_path / "test.1.en").write_bytes(b"a\nb\x0bc\n")
    done = segment(*options_for(tmp_path, "test.1"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/test.1.raw.de").read_bytes() == b"a b\nc\n"
    assert (tmp_path / "out/test.1.de").read_bytes().count(b"\n") == 2


def test_lines_too_long_for_a_model_are_refused_except_in_train(tmp_path):
    for language in ("de", "en"):
        (tmp_path / f"train.{language}").write_text("a\n" + "q " * 1100 + "\n")
    assert segment(*options_for(tmp_path, "train")).returncode == 0
    for language in ("de", "en"):
        (tmp_path / f"train.{language}").rename(tmp_path / f"valid.{language}")
    shutil.rmtree(tmp_path / "teacher")
    done = segment(*options_for(tmp_path, "valid"))
    assert done.returncode != 0 and "valid.de, line 2: more than 1023 subwords" in done.stderr


def test_missing_text_is_reported(tmp_path):
    done = segment(tmp_path, tmp_path / "out", "--languages", "de", "en", "--splits", "train")
    assert "train.de.gz" in done.stderr and "Traceback" not in done.stderr


PAIR = ("--languages", "de", "en")


@pytest.fixture
def raw(tmp_path):
    """A folder with a small train and test."""
    folder = tmp_path / "raw"
    folder.mkdir()
    toys.write_text(folder, {"train": 30, "test": 3})
    return folder


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refusal(raw, out, *words):
    """Runs a call that must fail without a traceback or new files; returns its last line."""
    before = contents(out) if out.exists() else {}
    done = segment(raw, out, *PAIR, *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert (contents(out) if out.exists() else {}) == before
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("spelling", ["raw", "raw/../raw", "link"])
@pytest.mark.parametrize("zipped", [False, True])
def test_output_in_the_folder_of_the_raw_text_is_refused(spelling, zipped, raw, tmp_path):
    (tmp_path / "link").symlink_to(raw)
    if zipped:
        for file in list(raw.iterdir()):
            Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    before = contents(raw)
    error = refusal(raw, tmp_path / spelling, "--splits", "train", "test", "--pieces", "60")
    assert "is the folder of the raw text: give another OUT" in error
    assert contents(raw) == before


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_raw_text_linked_into_the_output_folder_is_kept(link, raw, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for file in raw.iterdir():
        link(out / file.name, file)
    before = contents(raw)
    done = segment(raw, out, *PAIR, "--splits", "train", "test", "--pieces", "60")
    assert done.returncode == 0 and contents(raw) == before
    assert (out / "train.raw.de").read_bytes() == before["train.de"] != contents(out)["train.de"]


def test_outputs_with_one_name_are_refused(raw, tmp_path):
    for words in (["train", "train.raw"], ["train", "train"]):
        error = refusal(raw, tmp_path / "out", "--splits", *words, "--pieces", "60")
        assert "two files would become" in error


def test_model_of_the_output_folder_can_be_given(raw, tmp_path):
    model = tmp_path / "out" / "spm.model"
    assert segment(raw, model.parent, *PAIR, "--splits", "train", "--pieces", "60").returncode == 0
    before = contents(model.parent)
    done = segment(raw, model.parent, *PAIR, "--splits", "train", "--model", model)
    assert done.returncode == 0 and contents(model.parent) == before
    error = refusal(raw, model.parent, "--splits", "train", "--pieces", "70")
    assert f"{model} has 60 pieces, not 70: delete it, or leave out --pieces" in error


def test_bom_is_removed_and_invalid_utf8_is_refused(raw, tmp_path):
    test = raw / "test.de"
    test.write_bytes(codecs.BOM_UTF8 + test.read_bytes())
    plain = (raw / "test.de").read_text("utf-8-sig")
    words = ("--splits", "train", "test", "--pieces", "60")
    assert segment(raw, tmp_path / "out", *PAIR, *words).returncode == 0
    assert (tmp_path / "out" / "test.raw.de").read_text("utf-8") == plain
    assert "\ufeff" not in (tmp_path / "out" / "test.de").read_text("utf-8")
    test.write_bytes(b"ein\nGr\xfc\xdfe\nhaus\n")
    assert "test.de, line 2 is not UTF-8" in refusal(raw, tmp_path / "new", *words)


def test_different_plain_and_compressed_text_is_refused(raw, tmp_path):
    words = ("--splits", "train", "--pieces", "60")
    zipped = raw / "train.de.gz"
    zipped.write_bytes(gzip.compress((raw / "train.de").read_bytes()))
    assert segment(raw, tmp_path / "same", *PAIR, *words).returncode == 0
    zipped.write_bytes(gzip.compress((raw / "train.de").read_bytes() + b"mehr\n"))
    error = refusal(raw, tmp_path / "out", *words)
    assert f"{zipped} and {raw / 'train.de'} hold different texts: remove one" in error


@pytest.mark.parametrize("content", ["", "\n\n\n"])
@pytest.mark.parametrize("name", ["train.de", "test.en"])
def test_side_without_text_is_refused(name, content, raw, tmp_path):
    (raw / name).write_text(content)
    error = refusal(raw, tmp_path / "out", "--splits", "train", "test", "--pieces", "60")
    assert f"{name} holds no text" in error


@pytest.mark.parametrize(
    "words, message",
    [
        (["train", "--pieces", "8000"], "--pieces 8000: train gives at most "),
        (["train", "--pieces", "5"], "--pieces 5: the characters of train alone need "),
        (
            ["train", "--pieces", "0"],
            "argument --pieces: 0 is not a whole number of at least 1",
        ),
        (["train"], "spm.model does not exist: give --pieces to train it, or --model"),
        (["test", "--pieces", "60"], "a new one needs train: add --model or train"),
        (["train", "--model", "gone"], "No such file or directory: 'gone'"),
        (["train", "--model", __file__], "is not a sentencepiece model"),
        (["train", "--model", "x", "--pieces", "9"], "not allowed with argument"),
    ],
)
def test_invalid_models_and_vocabulary_sizes_are_refused(words, message, raw, tmp_path):
    assert message in refusal(raw, tmp_path / "out", "--splits", *words)


def test_incomplete_gzip_file_is_refused(raw, tmp_path):
    whole = gzip.compress((raw / "train.de").read_bytes())
    (raw / "train.de").unlink()
    for content in (whole[:40], b"plain text\n"):
        (raw / "train.de.gz").write_bytes(content)
        error = refusal(raw, tmp_path / "out", "--splits", "train", "--pieces", "60")
        assert "train.de.gz is not a complete gzip file" in error


def test_failed_call_leaves_no_model(raw, tmp_path):
    """Otherwise the next call would use it, even for another text."""
    for language in ("de", "en"):
        (raw / f"test.{language}").write_text("q " * 1100 + "\n")
    refusal(raw, tmp_path / "out", "--splits", "train", "test", "--pieces", "60")
    assert not list((tmp_path / "out").iterdir())

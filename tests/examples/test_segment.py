"""Text in pieces, and what is refused."""

import shutil

from texts import segment, small_pieces


def test_sides_of_different_length_are_refused(tmp_path):
    for name, lines in (("train.de", "a\nb\n"), ("train.en", "a\n")):
        (tmp_path / name).write_text(lines)
    done = segment(tmp_path, tmp_path / "out", "--languages", "de", "en", "--splits", "train")
    assert done.returncode != 0 and "train: 2 lines on one side, 1 on the other" in done.stderr


def words_of(tmp_path, *splits):
    """Options for text in `tmp_path`, with a model of pieces."""
    model = small_pieces(tmp_path / "teacher") / "sentencepiece.model"
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


def test_lines_end_at_line_feeds_alone(tmp_path):
    (tmp_path / "test.1.de").write_bytes(b"a\rb\r\nc\n")
    (tmp_path / "test.1.en").write_bytes(b"a\nb\x0bc\n")
    done = segment(*words_of(tmp_path, "test.1"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/test.1.raw.de").read_bytes() == b"a b\nc\n"
    assert (tmp_path / "out/test.1.de").read_bytes().count(b"\n") == 2


def test_lines_too_long_for_a_model(tmp_path):
    for language in ("de", "en"):
        (tmp_path / f"train.{language}").write_text("a\n" + "q " * 1100 + "\n")
    assert segment(*words_of(tmp_path, "train")).returncode == 0
    for language in ("de", "en"):
        (tmp_path / f"train.{language}").rename(tmp_path / f"valid.{language}")
    shutil.rmtree(tmp_path / "teacher")
    done = segment(*words_of(tmp_path, "valid"))
    assert done.returncode != 0 and "valid.de, line 2: more than 1023 pieces" in done.stderr


def test_missing_text_is_named(tmp_path):
    done = segment(tmp_path, tmp_path / "out", "--languages", "de", "en", "--splits", "train")
    assert "train.de.gz" in done.stderr and "Traceback" not in done.stderr

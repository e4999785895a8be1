"""Data without sentences, and words that are spelled like special symbols."""

import logging

import pytest
import torch
from toys import (
    SMALL,
    TEACHERS,
    binarise,
    fairseq_generate,
    fairseq_train,
    lines_of,
    load_task,
    write_text,
)

from fairseq_nart import hub
from fairseq_nart.cli import main
from fairseq_nart.data import sentences

SPECIAL = ("<pad>", "<s>", "</s>")


@pytest.fixture
def broken(tmp_path):
    """Binarizes text with a line changed: broken(split, language, line, text)."""

    def make(split, language, line, text, sizes=None):
        write_text(tmp_path, sizes or {"train": 30, "valid": 6, "test": 6})
        file = tmp_path / f"{split}.{language}"
        lines = file.read_text("utf-8").splitlines()
        lines[line - 1] = text
        file.write_text("".join(f"{x}\n" for x in lines), "utf-8")
        return binarise(tmp_path, tmp_path / "bin", "--joined-dictionary")

    return make


@pytest.mark.parametrize("symbol", SPECIAL)
@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("arch", [["--arch", "nart_crf_tiny", *SMALL], TEACHERS["transformer"]])
def test_training_error_names_the_line(symbol, language, arch, broken, tmp_path):
    data = broken("train", language, 17, f"heute {symbol} muss der mann")
    with pytest.raises(
        ValueError, match=rf"train\.de-en\.{language}, line 17: the word {symbol} is"
    ):
        fairseq_train(data, tmp_path / "save", *arch, "--max-update", "2")


def test_first_special_symbol_is_reported(broken):
    data = broken("valid", "de", 3, "</s> </s> <pad>")
    task = load_task(data)
    message = sentences.special_symbol(data / "valid.de-en.de", task.src_dict)
    assert message.endswith("valid.de-en.de, line 3: the word </s> is a special symbol of fairseq")
    assert sentences.special_symbol(data / "train.de-en.de", task.src_dict) is None


def test_old_formats_are_checked(broken, tmp_path):
    broken("train", "de", 2, "der <pad> mann")
    data = binarise(tmp_path, tmp_path / "old", "--joined-dictionary", "--dataset-impl", "lazy")
    message = sentences.special_symbol(data / "train.de-en.de", load_task(data).src_dict)
    assert ", line 2: the word <pad>" in message


@pytest.mark.parametrize("tool", ["distill", "align"])
def test_tool_errors_name_the_line(tool, broken, data, teacher, tmp_path, capsys):
    changed = broken("train", "de", 5, "der <pad> mann")
    words = {
        "distill": [changed, "--path", teacher, "--out", tmp_path / "out"],
        "align": [changed, "--pharaoh", tmp_path / "a", tmp_path / "b"],
    }[tool]
    for side in ("de", "en"):  # the teacher's dictionary
        (changed / f"dict.{side}.txt").write_bytes((data / f"dict.{side}.txt").read_bytes())
    assert main([tool, *map(str, words)]) == 1
    error = capsys.readouterr().err
    assert "train.de-en.de, line 5: the word <pad>" in error and error.count("\n") == 1


def test_special_symbols_are_translated_as_unknown_words(data, student, tmp_path, capsys, caplog):
    """By fairseq-generate and by the Python API."""
    write_text(tmp_path, {"test": 3}, seed=3)
    file = tmp_path / "test.de"
    first, _, third = file.read_text("utf-8").splitlines()
    lines = [f"{first} <pad> <s>", "</s> <pad>", third]
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    words = ("--srcdict", str(data / "dict.de.txt"), "--joined-dictionary")
    binarise(tmp_path, tmp_path / "bin", *words)
    with caplog.at_level(logging.WARNING):
        fairseq_generate(tmp_path / "bin", student)
    assert "test.de-en.de, line 1: the word <pad>" in caplog.text
    generated = lines_of(capsys.readouterr().out, "H")
    unknown = [f"{first} unbekannt unbekannt", "unbekannt unbekannt", third]
    translations = hub.from_pretrained(student, data).translate(unknown)
    assert hub.from_pretrained(student, data).translate(lines) == translations
    assert [generated[i][0].split("\t")[1] for i in range(3)] == translations


@pytest.mark.parametrize("split", ["train", "valid"])
def test_empty_splits_are_reported(split, tmp_path):
    write_text(tmp_path, {"train": 30, "valid": 6})
    for language in ("de", "en"):
        (tmp_path / f"{split}.{language}").write_text("")
    words = ("--srcdict", str(dictionary_of(tmp_path)), "--joined-dictionary")
    data = binarise(tmp_path, tmp_path / "bin", *words)
    with pytest.raises(ValueError, match=rf"{split}\.de-en\.de\.bin is empty, because its text"):
        fairseq_train(data, tmp_path / "save", *TEACHERS["transformer"], "--max-update", "2")


def test_empty_splits_are_reported_by_tools(teacher, data, tmp_path, capsys):
    write_text(tmp_path, {"train": 1})
    for language in ("de", "en"):
        (tmp_path / f"train.{language}").write_text("")
    words = ("--srcdict", str(data / "dict.de.txt"), "--joined-dictionary")
    empty = binarise(tmp_path, tmp_path / "bin", *words)
    out = str(tmp_path / "out")
    assert main(["distill", str(empty), "--path", str(teacher), "--out", out]) == 1
    assert "train.de-en.de.bin is empty" in capsys.readouterr().err


def dictionary_of(folder):
    file = folder / "words"
    file.write_text("der 1\nmann 1\n")
    return file


def test_only_the_final_eos_is_kept():
    task_ids = torch.tensor([0, 1, 7, 2, 3, 2])

    class Special:
        bos, pad, eos, unk = (lambda _, n=n: n for n in range(4))

    assert sentences.without_special(task_ids, Special()).tolist() == [3, 3, 7, 3, 3, 2]

"""Cuts raw text into sentencepiece pieces; first makes the model if there is none.

    python segment.py RAW OUT --languages de en --splits train valid test --pieces 8000

RAW holds SPLIT.LANG or SPLIT.LANG.gz. OUT, another folder, gets each text in pieces, SPLIT.LANG,
and as it was, SPLIT.raw.LANG. The model, OUT/spm.model, is a copy of --model, the one that OUT
already holds, or a new one, joint over both languages of train. A line ends at a line feed alone.
"""

import argparse
import math
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sentencepiece

from fairseq_nart.files import replacing
from fairseq_nart.subwords import load_model
from fairseq_nart.text import read_lines

CHUNK = 10_000
LONGEST = 1023
"""The most pieces that a model reads by default, the end of sentence not counted."""


def read(raw: Path, name: str) -> list[str]:
    """The lines of RAW/name.gz or RAW/name, stripped.

    OSError or ValueError where there is no text, or two different ones.
    """
    files = [file for file in (raw / f"{name}.gz", raw / name) if file.exists()]
    if not files:
        raise ValueError(f"neither {raw / name}.gz nor {raw / name} exists")
    lines, *other = (
        [line.replace("\r", " ").strip() for line in read_lines(file)] for file in files
    )
    if other and other[0] != lines:
        raise ValueError(f"{files[0]} and {files[1]} hold different texts: remove one of them")
    if not any(lines):
        raise ValueError(f"{files[0]} holds no text")
    return lines


def write(file: Path, lines: Iterable[str]) -> None:
    with open(file, "w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{line}\n" for line in lines)


def in_pieces(model: Any, lines: list[str], longest: float) -> Iterator[str]:
    """The pieces of each line. ValueError at the first line with more than `longest`."""
    for start in range(0, len(lines), CHUNK):  # all pieces of a large corpus would fill the memory
        cut = model.encode(lines[start : start + CHUNK], out_type=str)
        for number, pieces in enumerate(cut, start + 1):
            if len(pieces) > longest:
                raise ValueError(f"line {number}: more than {longest} pieces, which no model reads")
            yield " ".join(pieces)


def train(lines: Iterator[str], pieces: int, file: Path) -> None:
    """Writes a new model to `file`. ValueError where `lines` do not make so many pieces."""
    try:
        with open(file, "wb") as stream:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines,
                model_writer=stream,
                vocab_size=pieces,
                model_type="bpe",
                character_coverage=1.0,
            )
    except RuntimeError as error:
        if most := re.search(r"too high .*<= (\d+)", str(error)):
            advice = f"train makes at most {most[1]}: give --pieces {most[1]} or fewer"
        elif least := re.search(r"\d+ vs (\d+)", str(error)):
            advice = f"the characters of train alone need {least[1]}: give more"
        else:
            advice = f"sentencepiece cannot learn them from train: {error}"
        raise ValueError(f"--pieces {pieces}: {advice}") from error


def segment(options: argparse.Namespace) -> None:
    """Does what `options` ask for; OUT changes only when all of it has succeeded.

    OSError or ValueError, in a line, for what the user can fix.
    """
    raw, out, splits = options.raw, options.out, options.splits
    names = [(split, language) for split in splits for language in options.languages]
    outputs = [f"{split}{kind}.{x}" for split, x in names for kind in ("", ".raw")]
    outputs.append("spm.model")
    if twice := next((name for name in outputs if outputs.count(name) > 1), None):
        raise ValueError(f"two files would become {out / twice}: rename a split or a language")
    if raw.exists() and out.exists() and out.samefile(raw):
        raise ValueError(f"{out} is the folder of the raw text: give another as OUT")
    text = {(split, x): read(raw, f"{split}.{x}") for split, x in names}
    for split in splits:
        first, second = (len(text[split, x]) for x in options.languages)
        if first != second:
            raise ValueError(f"{raw / split}: {first} lines on one side, {second} on the other")
    kept = out / "spm.model"
    model = options.model or (kept if kept.exists() else None)
    pieces = load_model(model) if model else None
    if pieces and options.pieces and pieces.vocab_size() != options.pieces:
        raise ValueError(
            f"{kept} has {pieces.vocab_size()} pieces, not {options.pieces}: delete it, or leave "
            "--pieces out"
        )
    if not pieces and "train" not in splits:
        raise ValueError(f"{kept} does not exist, and a new one needs train: add --model or train")
    if not pieces and not options.pieces:
        raise ValueError(f"{kept} does not exist: give --pieces to make it, or --model")
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        # Opened first, so moved last: a call that is cut leaves no new model with old text.
        new = files.enter_context(replacing(kept))
        if pieces:
            shutil.copyfile(model, new)
        else:
            lines = (line for x in options.languages for line in text["train", x])
            train(lines, options.pieces, new)
            pieces = load_model(new)
        for (split, language), lines in text.items():
            cut, plain = (
                files.enter_context(replacing(out / f"{split}{kind}.{language}"))
                for kind in ("", ".raw")
            )
            # fairseq leaves longer lines of train out; at others it would stop after training.
            longest = math.inf if split == "train" else LONGEST
            try:
                write(cut, in_pieces(pieces, lines, longest))
            except ValueError as error:
                where = raw / f"{split}.{language}"
                raise ValueError(f"{where}, {error}: split or shorten it, on both sides") from error
            write(plain, lines)


def positive(word: str) -> int:
    """A whole number, at least 1."""
    if not re.fullmatch("[0-9]+", word) or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is not a whole number of at least 1")
    return int(word)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--languages", nargs=2, required=True)
    parser.add_argument("--splits", nargs="+", required=True)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pieces", type=positive, help="size of the model to make")
    which.add_argument("--model", type=Path, help="an existing model")
    options = parser.parse_args()
    try:
        segment(options)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

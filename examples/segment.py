"""Segments raw text with a sentencepiece model, which it trains first if there is none.

    python segment.py RAW OUT --languages de en --splits train valid test --pieces 8000

The folder RAW holds SPLIT.LANG or SPLIT.LANG.gz. Writes the segmented text to OUT/SPLIT.LANG and
the raw text to OUT/SPLIT.raw.LANG; OUT must be another folder. The model, OUT/spm.model, is a copy
of --model, else the existing one, else a new one trained on both languages of train. Lines end
only at line feeds. --romanian changes the letters of the language ro in all files.
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
from romanian import LETTERS, changed

from fairseq_nart.errors import UserError
from fairseq_nart.files import replacing
from fairseq_nart.subwords import load_model
from fairseq_nart.text import read_lines

CHUNK = 10_000
LONGEST = 1023
"""Most subwords of a sentence that models read by default, without the end of sentence."""


def read(raw: Path, name: str) -> list[str]:
    """The lines of RAW/name.gz or RAW/name, stripped.

    OSError or UserError if there is no text, or if both files exist and differ.
    """
    files = [file for file in (raw / f"{name}.gz", raw / name) if file.exists()]
    if not files:
        raise UserError(f"neither {raw / name}.gz nor {raw / name} exists")
    lines, *other = (
        [line.replace("\r", " ").strip() for line in read_lines(file)] for file in files
    )
    if other and other[0] != lines:
        raise UserError(f"{files[0]} and {files[1]} hold different texts: remove one of them")
    if not any(lines):
        raise UserError(f"{files[0]} holds no text")
    return lines


def write(file: Path, lines: Iterable[str]) -> None:
    with open(file, "w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{line}\n" for line in lines)


def segmented(model: Any, lines: list[str], longest: float) -> Iterator[str]:
    """The segmented lines. UserError at the first line with more than `longest` subwords."""
    for start in range(0, len(lines), CHUNK):  # the subwords of a large corpus would fill memory
        chunk = model.encode(lines[start : start + CHUNK], out_type=str)
        for number, pieces in enumerate(chunk, start + 1):
            if len(pieces) > longest:
                raise UserError(f"line {number}: more than {longest} subwords, too long for models")
            yield " ".join(pieces)


def train(lines: Iterator[str], pieces: int, file: Path) -> None:
    """Trains a model and writes it to `file`. UserError if `lines` do not give that many pieces."""
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
            advice = f"train gives at most {most[1]}: give --pieces {most[1]} or fewer"
        elif least := re.search(r"\d+ vs (\d+)", str(error)):
            advice = f"the characters of train alone need {least[1]}: give more"
        else:
            advice = f"sentencepiece cannot learn them from train: {error}"
        raise UserError(f"--pieces {pieces}: {advice}") from error


def segment(options: argparse.Namespace) -> None:
    """Trains the model if needed and writes all files, or none if anything fails.

    OSError or UserError for what the user can fix.
    """
    raw, out, splits = options.raw, options.out, options.splits
    names = [(split, language) for split in splits for language in options.languages]
    outputs = [f"{split}{kind}.{x}" for split, x in names for kind in ("", ".raw")]
    outputs.append("spm.model")
    if duplicate := next((name for name in outputs if outputs.count(name) > 1), None):
        raise UserError(f"two files would become {out / duplicate}: rename a split or a language")
    if raw.exists() and out.exists() and out.samefile(raw):
        raise UserError(f"{out} is the folder of the raw text: give another OUT")
    text = {(split, x): read(raw, f"{split}.{x}") for split, x in names}
    for split, x in names if options.romanian != "keep" else ():
        if x == "ro":
            text[split, x] = [changed(line, options.romanian) for line in text[split, x]]
    for split in splits:
        first, second = (len(text[split, x]) for x in options.languages)
        if first != second:
            raise UserError(f"{raw / split}: {first} lines on one side, {second} on the other")
    kept = out / "spm.model"
    model = options.model or (kept if kept.exists() else None)
    pieces = load_model(model) if model else None
    if pieces and options.pieces and pieces.vocab_size() != options.pieces:
        raise UserError(
            f"{kept} has {pieces.vocab_size()} pieces, not {options.pieces}: delete it, or leave "
            "out --pieces"
        )
    if not pieces and "train" not in splits:
        raise UserError(f"{kept} does not exist, and a new one needs train: add --model or train")
    if not pieces and not options.pieces:
        raise UserError(f"{kept} does not exist: give --pieces to train it, or --model")
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        # Opened first, so moved last: an interrupted call leaves no new model with old text.
        new = files.enter_context(replacing(kept))
        if pieces:
            shutil.copyfile(model, new)
        else:
            lines = (line for x in options.languages for line in text["train", x])
            train(lines, options.pieces, new)
            pieces = load_model(new)
        for (split, language), lines in text.items():
            encoded, plain = (
                files.enter_context(replacing(out / f"{split}{kind}.{language}"))
                for kind in ("", ".raw")
            )
            # fairseq skips longer lines of train; those of other splits would stop it later.
            longest = math.inf if split == "train" else LONGEST
            try:
                write(encoded, segmented(pieces, lines, longest))
            except UserError as error:
                where = raw / f"{split}.{language}"
                raise UserError(f"{where}, {error}: split or shorten it, on both sides") from error
            write(plain, lines)


def positive(word: str) -> int:
    """The number that `word` spells, a whole number of at least 1."""
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
    which.add_argument("--pieces", type=positive, help="vocabulary size of a new model")
    which.add_argument("--model", type=Path, help="an existing model")
    parser.add_argument(
        "--romanian",
        choices=["keep", *LETTERS],
        default="keep",
        help="letters of the language ro: write s and t with a comma below, or without diacritics",
    )
    options = parser.parse_args()
    try:
        segment(options)
    except (OSError, UserError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

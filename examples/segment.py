"""Cuts raw text into sentencepiece pieces; makes the model first where there is none.

    python segment.py RAW OUT --languages de en --splits train valid test --pieces 8000

RAW holds SPLIT.LANG or SPLIT.LANG.gz. OUT gets each in pieces, SPLIT.LANG, and as it was,
SPLIT.raw.LANG; the model, joint over both languages of train, or --model, becomes OUT/spm.model.
A line ends at a line feed alone.
"""

import argparse
import gzip
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece

CHUNK = 10_000
LONGEST = 1023
"""Pieces that a model reads beside the end of sentence, by default."""


def read(raw: Path, name: str) -> list[str]:
    """Lines of RAW/name.gz or RAW/name; FileNotFoundError names both."""
    for file, opened in ((raw / f"{name}.gz", gzip.open), (raw / name, open)):
        if file.exists():
            with opened(file, "rt", encoding="utf-8", newline="\n") as lines:
                return [line.replace("\r", " ").strip() for line in lines]
    raise FileNotFoundError(f"neither {raw / name}.gz nor {raw / name} is there")


def write(file: Path, lines: Iterable[str]) -> None:
    with open(file, "w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{line}\n" for line in lines)


def in_pieces(
    model: sentencepiece.SentencePieceProcessor, lines: list[str], longest: float
) -> Iterator[str]:
    """The pieces of each line. ValueError at the first with more than `longest`."""
    for start in range(0, len(lines), CHUNK):  # all pieces of a large corpus would fill the memory
        cut = model.encode(lines[start : start + CHUNK], out_type=str)
        for number, pieces in enumerate(cut, start + 1):
            if len(pieces) > longest:
                raise ValueError(f"line {number}: more than {longest} pieces, which no model reads")
            yield " ".join(pieces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--languages", nargs=2, required=True)
    parser.add_argument("--splits", nargs="+", required=True)
    parser.add_argument("--pieces", type=int, help="size of a model to be made")
    parser.add_argument("--model", type=Path, help="use this one")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names = [f"{split}.{language}" for split in options.splits for language in options.languages]
    try:
        text = {name: read(options.raw, name) for name in names}
    except FileNotFoundError as missing:
        parser.error(str(missing))
    for split in options.splits:
        first, second = (len(text[f"{split}.{x}"]) for x in options.languages)
        if first != second:
            parser.error(f"{options.raw}/{split}: {first} lines on one side, {second} on the other")
    model = options.out / "spm.model"
    if options.model and options.model.exists():
        shutil.copy(options.model, model)
    if not model.exists():
        if options.model or not options.pieces:
            model = options.model or model
            parser.error(f"{model} is not there: give an existing --model, or --pieces to make one")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line for x in options.languages for line in text[f"train.{x}"]),
            model_prefix=str(model.with_suffix("")),
            vocab_size=options.pieces,
            model_type="bpe",
            character_coverage=1.0,
        )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for name, lines in text.items():
        split, language = name.rsplit(".", 1)
        # Of train fairseq leaves longer lines out; at others it would stop when all is trained.
        longest = math.inf if split == "train" else LONGEST
        try:
            write(options.out / name, in_pieces(pieces, lines, longest))
        except ValueError as error:
            parser.error(f"{options.raw / name}, {error}: split or shorten it, on both sides")
        write(options.out / f"{split}.raw.{language}", lines)


if __name__ == "__main__":
    main()

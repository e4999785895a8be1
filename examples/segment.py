"""Cuts raw text into sentencepiece pieces; makes the model first where there is none.

    python segment.py RAW OUT --languages de en --splits train valid test --pieces 8000

RAW holds SPLIT.LANG or SPLIT.LANG.gz. OUT gets each in pieces, SPLIT.LANG, and as it was,
SPLIT.raw.LANG; the model, joint over both languages of train, or --model, becomes OUT/spm.model.
A line ends at a line feed alone.
"""

import argparse
import gzip
import shutil
from pathlib import Path

import sentencepiece

LONGEST = 1023
"""Pieces that a model reads beside the end of sentence, by default."""


def read(raw: Path, name: str) -> list[str]:
    """Lines of RAW/name.gz or RAW/name; FileNotFoundError names both."""
    for file, opened in ((raw / f"{name}.gz", gzip.open), (raw / name, open)):
        if file.exists():
            with opened(file, "rt", encoding="utf-8", newline="\n") as lines:
                return [line.replace("\r", " ").strip() for line in lines]
    raise FileNotFoundError(f"neither {raw / name}.gz nor {raw / name} is there")


def write(file: Path, lines: list[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


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
        cut = pieces.encode(lines, out_type=str)
        split, language = name.rsplit(".", 1)
        # Of train fairseq leaves such lines out; on these it would stop when all is trained.
        if split != "train" and (long := [n for n, x in enumerate(cut, 1) if len(x) > LONGEST]):
            parser.error(
                f"{options.raw / name}, line {long[0]}: more than {LONGEST} pieces, which no model "
                "reads: split or shorten it, on both sides"
            )
        write(options.out / name, [" ".join(x) for x in cut])
        write(options.out / f"{split}.raw.{language}", lines)


if __name__ == "__main__":
    main()

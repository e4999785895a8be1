"""Cuts raw text into sentencepiece pieces; makes the model first where there is none.

    python segment.py RAW OUT [--model spm.model]

RAW holds train, valid, test2016, test2017 as .de.gz and .en.gz (or without .gz). OUT gets each in
pieces, and the references as they are: SPLIT.raw.LANG.
"""

import argparse
import gzip
from pathlib import Path

import sentencepiece

SPLITS = ("train", "valid", "test2016", "test2017")
LANGUAGES = ("de", "en")
PIECES = 8000


def read(raw: Path, name: str) -> list[str]:
    """Lines of RAW/name.gz or RAW/name; FileNotFoundError names both."""
    for file, opened in ((raw / f"{name}.gz", gzip.open), (raw / name, open)):
        if file.exists():
            with opened(file, "rt", encoding="utf-8") as lines:
                return [line.strip() for line in lines]
    raise FileNotFoundError(f"neither {raw / name}.gz nor {raw / name} is there")


def write(file: Path, lines: list[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="sentencepiece model (default: OUT/spm.model)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    text = {f"{s}.{x}": read(options.raw, f"{s}.{x}") for s in SPLITS for x in LANGUAGES}
    model = options.model or options.out / "spm.model"
    if not model.exists():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text["train.de"] + text["train.en"]),
            model_prefix=str(model.with_suffix("")),
            vocab_size=PIECES,
            model_type="bpe",
            character_coverage=1.0,
        )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for name, lines in text.items():
        write(options.out / name, [" ".join(x) for x in pieces.encode(lines, out_type=str)])
        split, language = name.split(".")
        write(options.out / f"{split}.raw.{language}", lines)


if __name__ == "__main__":
    main()

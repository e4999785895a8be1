"""Writes the distilled data set and computes the statistics of its manifest."""

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu
import torch
from fairseq.data import Dictionary, data_utils, indexed_dataset

from fairseq_nart.data.splits import Split
from fairseq_nart.files import replacing, sha256
from fairseq_nart.subwords import subword_scheme

MANIFEST = "distill.json"


def write_data(
    data: Path,
    out: Path,
    splits: Sequence[Split],
    translations: Sequence[list[str]],
    dictionary: Dictionary,
) -> None:
    """Makes `out` the data set `data` with `translations` as the targets of `splits`.

    The targets are also written to `out` as text, one segmented line per sentence. After an
    interruption, a new call writes everything.
    """
    replaced = {split.target_file.name for split in splits}
    # Each index comes after its data: without it, fairseq does not read an unfinished data set.
    for file in sorted(data.iterdir(), key=lambda file: file.suffix == ".idx"):
        if file.is_file() and file.stem not in replaced and file.name != MANIFEST:
            with replacing(out / file.name) as temporary:
                shutil.copy(file, temporary)
    for split, lines in zip(splits, translations, strict=True):
        with replacing(distilled_text(out, split)) as temporary:
            text = "".join(f"{line}\n" for line in lines)
            temporary.write_text(text, encoding="utf-8", newline="\n")
        _binarise(lines, out / split.target_file.name, dictionary)


def distilled_text(out: Path, split: Split) -> Path:
    """The text file of a split's translations."""
    return out / f"{split.name}.distilled{split.target_file.suffix}"


def _binarise(lines: Iterable[str], file: Path, dictionary: Dictionary) -> None:
    with (
        replacing(file.with_name(f"{file.name}.idx")) as index,
        replacing(file.with_name(f"{file.name}.bin")) as binary,
    ):
        builder = indexed_dataset.make_builder(str(binary), "mmap", vocab_size=len(dictionary))
        for line in lines:
            ids = [dictionary.index(symbol) for symbol in _symbols(line)]
            builder.add_item(torch.tensor([*ids, dictionary.eos()]))
        builder.finalize(str(index))


def _symbols(line: str) -> list[str]:
    return line.split(" ") if line else []


def figures(
    out: Path, split: Split, lines: list[str], dictionary: Dictionary, kept: Collection[int]
) -> dict[str, Any]:
    """A split's statistics for the manifest. Token counts include the end of sentence.

    BLEU compares the translations, without the lines `kept`, with the original targets after
    joining subwords; None where the data have no targets.
    """
    source = np.asarray(split.source.sizes)
    target = np.array([len(_symbols(line)) + 1 for line in lines])
    unknown = sum(dictionary.unk_word in _symbols(line) for line in lines)
    translated = {index: line for index, line in enumerate(lines) if index not in kept}
    bleu, signature = bleu_of(split.target, translated, dictionary)
    return {
        "sentences": len(lines),
        "kept_original": len(kept),
        "source_tokens": int(source.sum()),
        "target_tokens": int(target.sum()),
        "mean_length_ratio": round(float((target / source).mean()), 4),
        "share_empty": round(sum(not line for line in lines) / len(lines), 6),
        "share_with_unknown": round(unknown / len(lines), 6),
        "bleu_against_original": bleu,
        "bleu_signature": signature,
        "text_sha256": sha256(distilled_text(out, split)),
    }


def bleu_of(
    target: Any, lines: dict[int, str], dictionary: Dictionary
) -> tuple[float, str] | tuple[None, None]:
    """BLEU of segmented lines, by their number in `target`, and its signature; None if `target`
    is None or there are no lines."""
    if target is None or not lines:
        return None, None
    scheme = subword_scheme(dictionary.symbols)
    # A different name, so that unknown words do not match each other.
    unknown = "UNKNOWNTOKENINREF"
    references = [dictionary.string(target[index], scheme, unk_string=unknown) for index in lines]
    bleu = sacrebleu.BLEU(force=True)
    hypotheses = [data_utils.post_process(line, scheme) for line in lines.values()]
    score = bleu.corpus_score(hypotheses, [references]).score
    return round(score, 2), str(bleu.get_signature())

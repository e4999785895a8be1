"""Binarised data sets: the splits that are read, and the distilled one that is written."""

import itertools
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu
import torch
from fairseq.data import Dictionary, data_utils, indexed_dataset

from fairseq_nart.files import replacing, sha256
from fairseq_nart.subwords import subword_scheme
from fairseq_nart.tasks import _sentences

MANIFEST = "distill.json"


@dataclass(frozen=True)
class Split:
    """One split of a binarised data set."""

    name: str
    source_file: Path
    """Without its .bin and .idx."""
    target_file: Path
    source: Any
    """Indexed token ids, each sentence with its end."""
    target: Any
    """None where the data have no targets."""

    @classmethod
    def open(cls, data: Path, name: str, languages: tuple[str, str]) -> "Split":
        """ValueError where a file is missing, unfinished, or the two sides are not parallel."""
        files = next(_sentences.files_of(data, name, languages), None)
        if files is None:
            lacking = f"{name}.{'-'.join(languages)}.{languages[0]}.bin"
            raise ValueError(f"{data} has no split {name!r}: there is no {lacking}")
        sides = [_load(file) for file in files]
        if sides[1] is not None and len(sides[0]) != len(sides[1]):
            raise ValueError(
                f"{files[0]} and {files[1].name}: {len(sides[0])} sources but {len(sides[1])} "
                "targets: binarise them again"
            )
        for file in files:  # the numbers of special symbols are the same in all dictionaries
            if special := _sentences.special_symbol(file, Dictionary()):
                raise ValueError(
                    f"{special}: write the word in another way, and binarise the text again"
                )
        return cls(name, *files, *sides)

    def beyond(self, longest: int) -> list[int]:
        """The sentences whose source has more tokens than that."""
        found: list[int] = np.flatnonzero(np.asarray(self.source.sizes) > longest).tolist()
        return found

    def original(self, index: int, dictionary: Dictionary) -> str:
        """The segmented target of a sentence; blank where the data have none."""
        ids = [] if self.target is None else self.target[index].tolist()[:-1]
        return " ".join(dictionary[token] for token in ids)

    def source_sha256(self) -> str:
        """Of the source's token ids."""
        return sha256(_with(self.source_file, ".bin"))

    def sha256(self) -> dict[str, str]:
        """Of the token ids of both sides; OSError where there is no target."""
        target = sha256(_with(self.target_file, ".bin"))
        return {"source": self.source_sha256(), "target": target}


def open_splits(data: Path, names: Sequence[str], languages: tuple[str, str]) -> list[Split]:
    """As `Split.open`; ValueError too where a part of train is forgotten."""
    for number in itertools.count(1) if "train" in names else ():
        if not list(data.glob(f"train{number}.*.bin")):
            break
        if f"train{number}" not in names:
            raise ValueError(
                f"{data} holds train{number} too, which fairseq-train reads as a part of train: "
                "add it to --splits"
            )
    return [Split.open(data, name, languages) for name in names]


def _with(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def _load(file: Path) -> Any:
    """The indexed data set, None where there is none."""
    there = {ending: _with(file, ending).exists() for ending in (".bin", ".idx")}
    if not any(there.values()):
        return None
    for ending, exists in there.items():
        if not exists:
            raise ValueError(
                f"{_with(file, ending)} is missing: the data set is unfinished, run "
                "fairseq-preprocess again"
            )
    _sentences.require_sentences(file)
    # Without a default, fairseq would read old formats in a way that needs prefetching.
    kind = indexed_dataset.infer_dataset_impl(str(file))
    return indexed_dataset.make_dataset(str(file), "lazy" if kind == "cached" else kind, True)


def write_data(
    data: Path,
    out: Path,
    splits: Sequence[Split],
    translations: Sequence[list[str]],
    dictionary: Dictionary,
) -> None:
    """Makes `out` the data set `data` with `translations` as the targets of `splits`.

    The targets also go to `out` as text, one segmented line per sentence. Whenever this is cut
    short, doing it again gives the whole.
    """
    replaced = {split.target_file.name for split in splits}
    # An index comes after its data: fairseq does not read a set without one, it is unfinished.
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
    """Where the translations of a split stand as text."""
    return out / f"{split.name}.distilled{split.target_file.suffix}"


def _binarise(lines: Iterable[str], file: Path, dictionary: Dictionary) -> None:
    with replacing(_with(file, ".idx")) as index, replacing(_with(file, ".bin")) as binary:
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
    """What the manifest says of a split. Tokens count the end of sentence.

    BLEU is that of the translations, without the lines `kept`, against the original targets,
    without subword pieces; None where the data have no targets.
    """
    source = np.asarray(split.source.sizes)
    target = np.array([len(_symbols(line)) + 1 for line in lines])
    unknown = sum(dictionary.unk_word in _symbols(line) for line in lines)
    translated = {index: line for index, line in enumerate(lines) if index not in kept}
    bleu, signature = _bleu(split.target, translated, dictionary)
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


def _bleu(
    target: Any, lines: dict[int, str], dictionary: Dictionary
) -> tuple[float, str] | tuple[None, None]:
    if target is None or not lines:
        return None, None
    scheme = subword_scheme(dictionary.symbols)
    # Another name, because an unknown word is no match for an unknown word.
    unknown = "UNKNOWNTOKENINREF"
    references = [dictionary.string(target[index], scheme, unk_string=unknown) for index in lines]
    bleu = sacrebleu.BLEU(force=True)
    hypotheses = [data_utils.post_process(line, scheme) for line in lines.values()]
    score = bleu.corpus_score(hypotheses, [references]).score
    return round(score, 2), str(bleu.get_signature())

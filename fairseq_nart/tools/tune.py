"""How a teacher's scores best rank candidates: BLEU on valid of what each rule would pick."""

import argparse
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from sacrebleu.metrics.bleu import BLEU
from tqdm import tqdm

from fairseq_nart.generation.rescore import normalize
from fairseq_nart.subwords import subword_scheme
from fairseq_nart.text import read_lines
from fairseq_nart.tools.reporting.markup import Table, markdown
from fairseq_nart.tools.reporting.quality import bleu_of

RULES: list[tuple[str, float | None]] = [
    *(("sum", None), ("mean", None)),
    *(("gnmt", alpha) for alpha in (0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0)),
    *(("reward", quarters / 4) for quarters in range(1, 25)),
]
"""What is tried: --rescore-normalization and --rescore-alpha."""


class Score(NamedTuple):
    """What a rule and its alpha come to."""

    rule: str
    alpha: float | None
    bleu: float
    brevity: float

    def options(self) -> str:
        """As fairseq-generate is told of it."""
        alpha = "" if self.alpha is None else f" --rescore-alpha {self.alpha:g}"
        return f"--rescore-normalization {self.rule}{alpha}"


@dataclass
class Sentence:
    """Its candidates, with their log-probabilities in nats and lengths in tokens."""

    texts: list[str] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def best(self, rule: str, alpha: float | None) -> str:
        """What a rule picks."""
        totals, lengths = torch.tensor(self.totals), torch.tensor(self.lengths)
        return self.texts[int(normalize(totals, lengths, rule, alpha or 0.0).argmax())]


_TEACHER = re.compile(r"'rescore_with': (None)?")
"""In the settings, which fairseq-generate logs first."""


def read_candidates(log: Path) -> list[Sentence]:
    """What fairseq-generate printed, in the order of the text.

    ValueError where the log is not whole, has one candidate a sentence, no teacher's scores, or
    text in pieces.
    """
    found: dict[int, Sentence] = {}
    settings = None
    torn = f"{log} is not the whole of what fairseq-generate prints on a test set"
    for line in read_lines(log):
        kind, _, rest = line.partition("-")
        if kind in ("H", "P"):
            try:
                number, *fields = rest.split("\t")
                sentence = found.setdefault(int(number), Sentence())
                if kind == "H":
                    sentence.texts.append(fields[1])
                else:
                    scores = [math.log(2) * float(score) for score in fields[0].split()]
                    sentence.totals.append(sum(scores))
                    sentence.lengths.append(len(scores))
            except (IndexError, ValueError):  # cut within the line
                raise ValueError(torn) from None
        settings = settings or _TEACHER.search(line)
    uneven = any(len(one.texts) != len(one.totals) for one in found.values())
    if sorted(found) != list(range(len(found))) or not found or uneven:
        raise ValueError(torn)
    if settings is None:
        raise ValueError(
            f"{log} lacks the settings that fairseq-generate logs first: keep its whole output "
            "(fairseq-generate ... > LOG 2>&1)"
        )
    if settings[1]:
        raise ValueError(
            f"{log} has no teacher's scores: decode with --rescore-with TEACHER and --nbest as "
            "large as --length-candidates"
        )
    if max(len(sentence.texts) for sentence in found.values()) == 1:
        raise ValueError(
            f"{log} holds one candidate a sentence: decode with --nbest as large as "
            "--length-candidates"
        )
    texts = [text for sentence in found.values() for text in sentence.texts]
    scheme, count = Counter(subword_scheme(text.split()) for text in texts).most_common(1)[0]
    if scheme and 2 * count > len(texts):
        raise ValueError(f"{log} is in pieces: decode with --remove-bpe{_REMOVE_BPE[scheme]}")
    return [found[number] for number in range(len(found))]


_REMOVE_BPE = {"sentencepiece": " sentencepiece", "@@ ": ""}


def tune(log: Path, references: Path, tokenize: str) -> list[Score]:
    """Of each rule. ValueError as `read_candidates`, `read_lines` and `bleu_of`."""
    metric = bleu_of(tokenize)
    sentences = read_candidates(log)
    lines = read_lines(references)
    if len(lines) != len(sentences):
        raise ValueError(f"{log} has {len(sentences)} sentences but {references} {len(lines)}")
    rows = []
    for rule, alpha in tqdm(RULES, unit="rule", leave=False):
        picked = [sentence.best(rule, alpha) for sentence in sentences]
        score = metric.corpus_score(picked, [lines])
        rows.append(Score(rule, alpha, score.score, score.bp))
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart tune`."""
    parser.add_argument(
        "log",
        type=Path,
        help="what fairseq-generate printed on valid, with --rescore-with and --nbest as large as "
        "--length-candidates",
    )
    parser.add_argument("--references", type=Path, required=True, help="plain text, a line each")
    parser.add_argument(
        "--tokenize",
        default="13a",
        choices=sorted(BLEU.TOKENIZERS),
        help="sacreBLEU's name for the tokens of BLEU (default 13a)",
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart tune`."""
    rows = tune(options.log, options.references, options.tokenize)
    cells = [
        [rule, "" if alpha is None else f"{alpha:g}", f"{bleu:.2f}", f"{brevity:.3f}"]
        for rule, alpha, bleu, brevity in rows
    ]
    print(markdown(Table("", ["rule", "alpha", "BLEU", "brevity penalty"], cells)))
    best = max(rows, key=lambda row: row.bleu)
    print(f"best: {best.options()} (BLEU {best.bleu:.2f})")

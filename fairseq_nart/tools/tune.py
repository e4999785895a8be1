"""Finds the best normalization of a teacher's scores for ranking candidates, by BLEU on valid."""

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

from fairseq_nart.errors import UserError
from fairseq_nart.generation.normalization import normalize
from fairseq_nart.subwords import subword_scheme
from fairseq_nart.text import read_lines
from fairseq_nart.tools.reporting.markup import Table, markdown
from fairseq_nart.tools.reporting.quality import bleu_of

RULES: list[tuple[str, float | None]] = [
    *(("sum", None), ("mean", None)),
    *(("gnmt", alpha) for alpha in (0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0)),
    *(("reward", quarters / 4) for quarters in range(1, 25)),
]
"""Values of --rescore-normalization and --rescore-alpha to try."""


class Score(NamedTuple):
    """The quality of one normalization rule."""

    rule: str
    alpha: float | None
    bleu: float
    brevity: float
    """The brevity penalty."""

    def options(self) -> str:
        """The rule as options of fairseq-generate."""
        alpha = "" if self.alpha is None else f" --rescore-alpha {self.alpha:g}"
        return f"--rescore-normalization {self.rule}{alpha}"


@dataclass
class Sentence:
    """A sentence's candidates, with the teacher's log-probabilities in nats and the lengths."""

    texts: list[str] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """In tokens, the end of sentence included."""

    def best(self, rule: str, alpha: float | None) -> str:
        """The candidate that a rule ranks first."""
        totals, lengths = torch.tensor(self.totals), torch.tensor(self.lengths)
        return self.texts[int(normalize(totals, lengths, rule, alpha or 0.0).argmax())]


_TEACHER = re.compile(r"'rescore_with': (None)?")
"""Matches the settings, which fairseq-generate logs first."""


def read_candidates(log: Path) -> list[Sentence]:
    """Reads the candidates that fairseq-generate printed, in the order of the text.

    UserError if the log is incomplete, has only one candidate per sentence, lacks the teacher's
    scores, or is segmented.
    """
    by_number: dict[int, Sentence] = {}
    settings = None
    incomplete = f"{log} is not the complete output of fairseq-generate on a test set"
    for line in read_lines(log):
        kind, _, rest = line.partition("-")
        if kind in ("H", "P"):
            try:
                number, *fields = rest.split("\t")
                sentence = by_number.setdefault(int(number), Sentence())
                if kind == "H":
                    sentence.texts.append(fields[1])
                else:
                    scores = [math.log(2) * float(score) for score in fields[0].split()]
                    sentence.totals.append(sum(scores))
                    sentence.lengths.append(len(scores))
            except (IndexError, ValueError):  # truncated within the line
                raise UserError(incomplete) from None
        settings = settings or _TEACHER.search(line)
    sentences = [by_number[number] for number in sorted(by_number)]
    uneven = any(len(one.texts) != len(one.totals) for one in sentences)
    if sorted(by_number) != list(range(len(by_number))) or not by_number or uneven:
        raise UserError(incomplete)
    if settings is None:
        raise UserError(
            f"{log} lacks the settings that fairseq-generate logs first: keep all its output "
            "(fairseq-generate ... > LOG 2>&1)"
        )
    if settings[1]:
        raise UserError(
            f"{log} has no scores of a teacher: decode with --rescore-with TEACHER and --nbest as "
            "large as --length-candidates"
        )
    if max(len(sentence.texts) for sentence in sentences) == 1:
        raise UserError(
            f"{log} holds one candidate per sentence: decode with --nbest as large as "
            "--length-candidates"
        )
    texts = [text for sentence in sentences for text in sentence.texts]
    scheme, count = Counter(subword_scheme(text.split()) for text in texts).most_common(1)[0]
    if scheme and 2 * count > len(texts):
        raise UserError(f"{log} is segmented: decode with --remove-bpe{_REMOVE_BPE[scheme]}")
    return sentences


_REMOVE_BPE = {"sentencepiece": " sentencepiece", "@@ ": ""}


def tune(log: Path, references: Path, tokenize: str) -> list[Score]:
    """The score of each rule. UserError as in `read_candidates`, `read_lines` and `bleu_of`."""
    metric = bleu_of(tokenize)
    sentences = read_candidates(log)
    lines = read_lines(references)
    if len(lines) != len(sentences):
        raise UserError(f"{log} has {len(sentences)} sentences but {references} {len(lines)}")
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
        help="output of fairseq-generate on valid, with --rescore-with and --nbest as large as "
        "--length-candidates",
    )
    parser.add_argument(
        "--references", type=Path, required=True, help="plain text, one reference per line"
    )
    parser.add_argument(
        "--tokenize",
        default="13a",
        choices=sorted(BLEU.TOKENIZERS),
        help="sacreBLEU's tokenizer for BLEU (default: 13a)",
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

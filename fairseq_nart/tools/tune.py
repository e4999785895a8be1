"""Finds the decoding options with the best BLEU on a validation set.

Without --rescore-with these are the model's own options of length; with it, the rule by which the
teacher ranks candidates.
"""

import argparse
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sacrebleu.metrics.bleu import BLEU
from tqdm import tqdm

from fairseq_nart.errors import UserError
from fairseq_nart.generation.normalization import normalize
from fairseq_nart.generation.ranking import Hypothesis
from fairseq_nart.hub import Translator
from fairseq_nart.options import typed
from fairseq_nart.text import read_lines
from fairseq_nart.tools import _model
from fairseq_nart.tools.reporting.markup import Table, markdown
from fairseq_nart.tools.reporting.quality import bleu_of

RULES: list[tuple[str, float | None]] = [
    *(("sum", None), ("mean", None)),
    *(("gnmt", alpha) for alpha in (0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0)),
    *(("reward", quarters / 4) for quarters in range(1, 25)),
]
"""Values of --rescore-normalization and --rescore-alpha to try."""


class Score(NamedTuple):
    """The quality of some decoding options."""

    options: dict[str, Any]
    bleu: float
    brevity: float
    """The brevity penalty."""

    def words(self) -> str:
        """The options as typed on the command line."""
        return " ".join(f"{typed(name)} {value}" for name, value in self.options.items())


class Tuning:
    """A validation set, and a model that translates it."""

    def __init__(
        self, translator: Translator, lines: list[str], references: list[str], metric: BLEU
    ) -> None:
        self.translator = translator
        self.lines = lines
        self.references = references
        self.metric = metric

    def scores(self) -> Iterator[Score]:
        """The score of each value of the options to tune. UserError if there are none."""
        return self._of_rules() if self.translator.engine.rescorer else self._of_own_options()

    def _of_own_options(self) -> Iterator[Score]:
        """One option after the other; each keeps the best values of those before it."""
        engine, model = self.translator.engine, self.translator.model
        options = [x for x in fields(engine.options) if "tuned" in x.metadata]
        options = [x for x in options if x.name not in model.idle_options]
        if not options:
            raise UserError(
                f"{type(model).__name__} has no options of length: give --rescore-with TEACHER, to "
                "tune how a teacher ranks candidates"
            )
        best = Score({}, float("-inf"), 0.0)
        for option in options:
            tuned = []
            for value in option.metadata["tuned"]:
                values = {**best.options, option.name: value}
                engine.options = replace(engine.options, **values)
                texts = [self._text(hypotheses[0]) for hypotheses in self._decode(most=1)]
                tuned.append(self._score(values, texts))
                yield tuned[-1]
            best = max(tuned, key=lambda score: score.bleu)

    def _of_rules(self) -> Iterator[Score]:
        candidates = self._decode(most=None)
        if max(map(len, candidates)) < 2:
            raise UserError(
                "a teacher has nothing to rank: type an option for several candidates, such as "
                "--length-candidates 19 or --ctc-beam 10"
            )
        texts = [list(map(self._text, hypotheses)) for hypotheses in candidates]
        totals = [torch.stack([x.token_scores.sum() for x in some]) for some in candidates]
        lengths = [torch.tensor([len(x.tokens) for x in some]).to(totals[0]) for some in candidates]
        for rule, alpha in RULES:
            best = [
                int(normalize(*scores, rule, alpha or 0.0).argmax())
                for scores in zip(totals, lengths, strict=True)
            ]
            options = {"rescore_normalization": rule, "rescore_alpha": alpha}
            options = {name: value for name, value in options.items() if value is not None}
            yield self._score(options, [some[i] for some, i in zip(texts, best, strict=True)])

    def _decode(self, most: int | None) -> list[list[Hypothesis]]:
        """The `most` best hypotheses of each line, or all."""
        result: list[list[Hypothesis]] = [[] for _ in self.lines]
        for place, hypotheses in self.translator.hypotheses(self.lines, most=most):
            result[place] = hypotheses
        return result

    def _text(self, hypothesis: Hypothesis) -> str:
        return self.translator.text(hypothesis.tokens)

    def _score(self, options: dict[str, Any], texts: list[str]) -> Score:
        score = self.metric.corpus_score(texts, [self.references])
        return Score(options, score.score, score.bp)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart tune`."""
    parser.add_argument("file", type=Path, help="source of the validation set, a sentence per line")
    parser.add_argument(
        "--references", type=Path, required=True, help="plain text, one reference per line"
    )
    parser.add_argument(
        "--tokenize",
        default="13a",
        choices=sorted(BLEU.TOKENIZERS),
        help="sacreBLEU's tokenizer for BLEU (default: 13a)",
    )
    _model.add_arguments(parser, "checkpoint of a non-autoregressive model")
    _model.add_decoding_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart tune`."""
    metric = bleu_of(options.tokenize)
    lines, references = read_lines(options.file), read_lines(options.references)
    if len(lines) != len(references):
        raise UserError(
            f"{options.file} has {len(lines)} lines but {options.references} {len(references)}"
        )
    if not any(map(str.strip, lines)):
        raise UserError(f"{options.file} holds no sentences: give the source of a validation set")
    tuning = Tuning(_model.load_for_decoding(options), lines, references, metric)
    scores = list(tqdm(tuning.scores(), unit=" values", leave=False))
    cells = [[x.words(), f"{x.bleu:.2f}", f"{x.brevity:.3f}"] for x in scores]
    print(markdown(Table("", ["options", "BLEU", "brevity penalty"], cells)))
    best = max(scores, key=lambda score: score.bleu)
    print(f"best: {best.words()} (BLEU {best.bleu:.2f})")

"""The quality of translations: BLEU, chrF, confidence, lengths and repetitions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from fairseq_nart.errors import UserError
from fairseq_nart.tools.reporting.collection import Text

RESAMPLES = 1000
"""Bootstrap samples of the test set, for confidence and significance; sacreBLEU's default."""


@dataclass(frozen=True)
class Quality:
    """Scores of one system on one test set. BLEU and chrF are from 0 to 100."""

    bleu: float
    confidence: float
    """Half the width of the 95 % interval of BLEU."""
    p_value: float | None
    """For the difference in BLEU to the baseline; None for the baseline itself, or without one."""
    other_bleu: float
    """BLEU with the other tokenisation, see `other_tokenisation`."""
    chrf: float
    length_ratio: float
    """Tokens of the outputs to tokens of the references, as BLEU counts them."""
    brevity_penalty: float
    repetition: float
    """See `repetition`."""
    empty: int
    """Number of outputs without a word."""
    sentences: int


@dataclass(frozen=True)
class Assessment:
    """Scores of all systems on one test set."""

    systems: dict[str, Quality]
    bleu_signature: str
    other_signature: str
    chrf_signature: str
    repetition_of_references: float
    sentences: int


Swept = dict[str, dict[int, float]]
"""Maps system and value of a parameter to BLEU."""


def sweeps(
    texts: dict[tuple[str, str, str, int], Text], tokenize: str
) -> dict[tuple[str, str], Swept]:
    """BLEU by test set and parameter; `texts` is by system, test set, parameter and value."""
    scores: dict[tuple[str, str], Swept] = {}
    for (system, data, parameter, value), text in sorted(texts.items()):
        score = bleu(text.outputs, text.references, tokenize)
        scores.setdefault((data, parameter), {}).setdefault(system, {})[value] = score
    return scores


def other_tokenisation(tokenize: str) -> str:
    """The tokenisation of the second BLEU column: "none", or "13a" if the first is "none".

    On text that is already tokenised, BLEU with "none" is what multi-bleu computes.
    """
    return "13a" if tokenize == "none" else "none"


def bleu(outputs: Sequence[str], references: Sequence[str], tokenize: str) -> float:
    """sacreBLEU with one reference per sentence."""
    return float(bleu_of(tokenize).corpus_score(outputs, [references]).score)


def bleu_of(tokenize: str) -> BLEU:
    """sacreBLEU's BLEU with this tokenizer.

    UserError if it needs a package that is not installed or a model that cannot be downloaded.
    """
    try:
        return BLEU(tokenize=tokenize, force=True)
    except (AssertionError, ImportError, OSError, RuntimeError) as error:
        install = re.search(r"pip install \S+", str(error))
        advice = (
            f"run `{install[0]}`"
            if install
            else f"sacreBLEU cannot load it ({error}); it downloads a missing model, which needs "
            "the network"
        )
        raise UserError(f"--tokenize {tokenize}: {advice}") from error


def repetition(lines: Sequence[str]) -> float:
    """The share of tokens, separated by spaces, that equal the token before them."""
    sentences = [line.split() for line in lines]
    repeated = sum(a == b for words in sentences for a, b in pairwise(words))
    return repeated / max(1, sum(map(len, sentences)))


def assess(texts: dict[str, Text], baseline: str, tokenize: str) -> Assessment:
    """Scores all systems on one test set, and differences to `baseline` if it is among them."""
    references = next(iter(texts.values())).references
    first = baseline if baseline in texts else next(iter(texts))
    order = [first, *(name for name in texts if name != first)]
    metric, other = bleu_of(tokenize), bleu_of(other_tokenisation(tokenize))
    chrf = CHRF()
    signatures, results = PairedTest(
        [(name, texts[name].outputs) for name in order],
        {"BLEU": metric},
        [references],
        test_type="bs",
        n_samples=RESAMPLES,
    )()
    tested = dict(zip(order, results["BLEU"], strict=True))
    scored = {}
    for name, text in texts.items():
        result, score = tested[name], metric.corpus_score(text.outputs, [references])
        assert not isinstance(result, str) and result.ci is not None
        # The test counts samples with a larger difference than here. For equal outputs it counts
        # none, so it cannot be used.
        p_value = 1.0 if text.outputs == texts[first].outputs else result.p_value
        scored[name] = Quality(
            bleu=score.score,
            confidence=float(result.ci),
            p_value=p_value if baseline in texts and name != baseline else None,
            other_bleu=other.corpus_score(text.outputs, [references]).score,
            chrf=chrf.corpus_score(text.outputs, [references]).score,
            length_ratio=score.ratio,
            brevity_penalty=score.bp,
            repetition=repetition(text.outputs),
            empty=sum(not line.split() for line in text.outputs),
            sentences=len(text.outputs),
        )
    return Assessment(
        scored,
        str(signatures["BLEU"]),
        str(other.get_signature()),
        str(chrf.get_signature()),
        repetition(references),
        len(references),
    )

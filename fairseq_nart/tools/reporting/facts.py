"""What a report says in words: under which circumstances, and how each figure was measured."""

from collections.abc import Iterable

from fairseq_nart.tools.benchmark.records import OTHER, Translation
from fairseq_nart.tools.reporting.comparison import Comparison
from fairseq_nart.tools.reporting.quality import RESAMPLES, other_tokenisation

Facts = list[tuple[str, str]]
"""A word and what is to be said of it."""


def circumstances(of: Comparison) -> Facts:
    """The head of a report."""
    records = of.collection.records
    assessed = of.assessments.values()
    versions = dict.fromkeys(pair for record in records for pair in record.versions.items())
    times = sorted(record.time for record in records)
    return [
        ("data", "; ".join(_data(of, data) for data in of.collection.data)),
        ("machine", str(records[0].machine)),
        ("versions", ", ".join(f"{library} {version}" for library, version in versions)),
        ("commit", _joined(record.commit for record in records)),
        ("measured", times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"),
        ("baseline of speed-up and p", of.baseline),
        ("teacher of the gaps", of.teacher),
        ("BLEU", _joined(assessment.bleu_signature for assessment in assessed)),
        ("BLEU, other tokens", _joined(assessment.other_signature for assessment in assessed)),
        ("chrF", _joined(assessment.chrf_signature for assessment in assessed)),
    ]


def _joined(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _data(of: Comparison, data: str) -> str:
    texts = of.collection.of_data(data)
    if not texts:
        return f"{data} (not translated)"
    text = next(iter(texts.values()))
    assert isinstance(text.record, Translation)
    return (
        f"{data} ({len(text.references)} sentences, SHA-256 of their lines "
        f"{text.record.data_sha256[:12]})"
    )


def methods(of: Comparison) -> Facts:
    """How each figure was measured and what it means."""
    facts: Facts = []
    if of.assessments:
        facts += _quality(of)
    if of.collection.latencies:
        facts += _LATENCY
    if of.collection.throughputs:
        facts.append(("Sentences per second", _THROUGHPUT))
    if of.collection.memories:
        facts.append(("Peak memory", _MEMORY))
    if of.collection.operations:
        facts.append(("GFLOP", _OPERATIONS))
    if of.collection.parts:
        facts.append(("Parts", _PARTS))
    return facts


def _quality(of: Comparison) -> Facts:
    references = "; ".join(
        f"{data} {assessment.repetition_of_references:.2%}"
        for data, assessment in of.assessments.items()
    )
    return [
        (
            f"BLEU ({of.tokenize})",
            f"sacreBLEU of the outputs, tokenised by its {of.tokenize}, against one reference. "
            "After ± half the width of the 95 % interval, from bootstrap resampling of the test "
            f"set ({RESAMPLES:,} samples). In parentheses the gap: the teacher's BLEU less the "
            "system's, before rounding.",
        ),
        (
            "p",
            "Of the difference in BLEU to the baseline, by sacreBLEU's paired bootstrap test with "
            f"{RESAMPLES:,} samples, so never less than 0.001; 1 where the outputs are the same. "
            "It is the test set that is sampled: another training may differ by more.",
        ),
        (
            f"BLEU ({other_tokenisation(of.tokenize)})",
            _OTHER_TOKENS[other_tokenisation(of.tokenize)],
        ),
        ("Length ratio", "Tokens of the outputs to tokens of the references, as BLEU counts them."),
        ("Brevity penalty", "The factor by which short outputs lower BLEU; 1 is none."),
        (
            "Repeated tokens",
            "The share of tokens, divided by spaces, that equal the token before them. In the "
            f"references: {references}.",
        ),
        ("Empty outputs", "Outputs without a token."),
    ]


_OTHER_TOKENS = {
    "none": "The same formula with the words as they stand, divided by spaces alone: what "
    "multi-bleu computes where the text is tokenised already.",
    "13a": "The same formula with the tokens of mteval-v13a, sacreBLEU's default.",
}

_LATENCY: Facts = [
    (
        "Latency",
        "Seconds on the clock for one sentence at a time (batch 1): from raw text to raw text, or "
        "from token ids to token ids, rescoring included. The systems take turns of a few "
        "sentences, and of each sentence the median of its repeats counts. Mean, median and the "
        "times within which 95 and 99 % of the sentences were done.",
    ),
    (
        "Speed-up",
        "The baseline's mean latency to the system's, before rounding; only of times that were "
        "measured in turns.",
    ),
    (
        "Threads",
        "Those of the row's latency. They may differ: each engine is timed with the number that "
        "is best for it, unless its plan says how many.",
    ),
    (
        "Weights",
        "On a CPU in float32 the weights of linear layers are packed for its kernels, in ours, "
        "in teachers that rescore and in autoregressive models alike; not where a system "
        "names a task of fairseq's own.",
    ),
]

_THROUGHPUT = (
    "Translated in batches of this many sentences, the same ones for all systems, from all over "
    "the test set and repeated where it has too few, at the number of threads and streams that is "
    "best for each in batches of 16; the better of two looks."
)

_MEMORY = (
    "The most that translating sentences one at a time took: resident memory of a process, its "
    "libraries included, or memory allocated on a GPU."
)

_OPERATIONS = (
    "Billions of floating-point operations of the products of matrices for one sentence, two for "
    "each pair of factors, counted in every fifth timed sentence; per second of the latency of the "
    "same ones. Not of engines that show nothing of what they compute."
)

_PARTS = (
    "Mean milliseconds per sentence, token ids to token ids, with a clock around each part, in one "
    f'pass for each system that is not that of the latencies; "{OTHER}" is what no part explains '
    "of the total, which has a clock of its own."
)

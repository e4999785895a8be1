"""The text of a report: the circumstances, and how each figure was measured."""

from collections.abc import Iterable

from fairseq_nart.tools.benchmark.records import OTHER, Translation
from fairseq_nart.tools.reporting.comparison import Comparison
from fairseq_nart.tools.reporting.quality import RESAMPLES, other_tokenisation

Facts = list[tuple[str, str]]
"""Terms with their descriptions."""


def circumstances(results: Comparison) -> Facts:
    """The header of a report: data, machine, versions and other circumstances."""
    records = results.collection.records
    assessed = results.assessments.values()
    versions = dict.fromkeys(pair for record in records for pair in record.versions.items())
    times = sorted(record.time for record in records)
    return [
        ("data", "; ".join(_data(results, data) for data in results.collection.data)),
        ("machine", str(records[0].machine)),
        ("versions", ", ".join(f"{library} {version}" for library, version in versions)),
        ("commit", _joined(record.commit for record in records)),
        ("measured", times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"),
        ("baseline of speed-up and p", results.baseline),
        ("teacher of the gaps", results.teacher),
        ("BLEU", _joined(assessment.bleu_signature for assessment in assessed)),
        ("BLEU, other tokens", _joined(assessment.other_signature for assessment in assessed)),
        ("chrF", _joined(assessment.chrf_signature for assessment in assessed)),
    ]


def _joined(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _data(results: Comparison, data: str) -> str:
    texts = results.collection.texts_on(data)
    if not texts:
        return f"{data} (not translated)"
    text = next(iter(texts.values()))
    assert isinstance(text.record, Translation)
    return (
        f"{data} ({len(text.references)} sentences, SHA-256 of their lines "
        f"{text.record.data_sha256[:12]})"
    )


def methods(results: Comparison) -> Facts:
    """How each figure was measured and what it means."""
    facts: Facts = []
    if results.assessments:
        facts += _quality(results)
    if results.collection.latencies:
        facts += _LATENCY
    if results.collection.source_lengths:
        facts.append(("Source tokens", _SOURCE_TOKENS))
    if results.collection.throughputs:
        facts.append(("Sentences per second", _THROUGHPUT))
    if results.collection.memories:
        facts.append(("Peak memory", _MEMORY))
    if results.collection.operations:
        facts.append(("GFLOP", _OPERATIONS))
    if results.collection.parts:
        facts.append(("Parts", _PARTS))
    return facts


def _quality(results: Comparison) -> Facts:
    references = "; ".join(
        f"{data} {assessment.repetition_of_references:.2%}"
        for data, assessment in results.assessments.items()
    )
    return [
        (
            f"BLEU ({results.tokenize})",
            f"sacreBLEU of the outputs, with its tokenizer {results.tokenize}, against one "
            "reference. After ± half the width of the 95 % interval, from bootstrap resampling of "
            f"the test set ({RESAMPLES:,} samples). In parentheses the gap: the teacher's BLEU "
            "minus the system's, before rounding.",
        ),
        (
            "p",
            "Of the difference in BLEU to the baseline, by sacreBLEU's paired bootstrap test with "
            f"{RESAMPLES:,} samples, so never less than 0.001; 1 where the outputs are the same. "
            "Only the test set is resampled: another training run may differ by more.",
        ),
        (
            f"BLEU ({other_tokenisation(results.tokenize)})",
            _OTHER_TOKENS[other_tokenisation(results.tokenize)],
        ),
        ("Length ratio", "Tokens of the outputs to tokens of the references, as BLEU counts them."),
        ("Brevity penalty", "The factor by which short outputs lower BLEU; 1 is none."),
        (
            "Repeated tokens",
            "The share of tokens, separated by spaces, that equal the token before them. In the "
            f"references: {references}.",
        ),
        ("Empty outputs", "Outputs without a token."),
    ]


_OTHER_TOKENS = {
    "none": "The same formula with words separated by spaces: what multi-bleu computes on text "
    "that is already tokenised.",
    "13a": "The same formula with the tokens of mteval-v13a, sacreBLEU's default.",
}

_LATENCY: Facts = [
    (
        "Latency",
        "Wall-clock time for one sentence at a time (batch 1), from raw text to raw text or from "
        "token ids to token ids, rescoring included. The systems are timed in interleaved trials "
        "of a few sentences; a sentence's time is the median of its repeats. Mean, median and the "
        "95th and 99th percentiles.",
    ),
    (
        "Speed-up",
        "The baseline's mean latency divided by the system's, before rounding; only for times of "
        "the same interleaved trials.",
    ),
    (
        "Threads",
        "The number of threads used for the row's latency. Each engine is timed with the number "
        "that is best for it, unless the plan sets one.",
    ),
    (
        "Weights",
        "On a CPU in float32 the weights of linear layers are packed for its kernels, in our "
        "models, in rescoring teachers and in autoregressive models; not in systems that name one "
        "of fairseq's own tasks.",
    ),
]

_SOURCE_TOKENS = (
    "Latency of sentences with about this many subwords, made by cutting and joining consecutive "
    "sentences of the test set; timed as the latency is."
)

_THROUGHPUT = (
    "Translated in batches of this many sentences. They are the same for all systems, spread over "
    "the test set, and repeated if it has too few. Each system uses the number of threads and "
    "streams that is best for it in batches of 16. The better of two trials counts."
)

_MEMORY = (
    "Peak memory while translating sentences one at a time: resident memory of the process, "
    "libraries included, or memory allocated on the GPU."
)

_OPERATIONS = (
    "Billions of floating-point operations of matrix products for one sentence, counted in every "
    "fifth timed sentence; a multiply-add counts as two. GFLOP/s divides them by the latency of "
    "the same sentences. Not available for closed engines. The floor, for engine onnx, is the time "
    "that the same operations take at the best rate of one matrix product on this machine, in the "
    "same precision and with the same threads: no latency can be lower without fewer operations."
)

_PARTS = (
    "Mean milliseconds per sentence, token ids to token ids. Each part is timed in a pass separate "
    f'from the latencies; "{OTHER}" is the rest of the total, which is measured as a whole.'
)

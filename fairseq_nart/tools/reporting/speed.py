"""Statistics of latencies: means, percentiles, speed-ups."""

from dataclasses import dataclass

import numpy as np

from fairseq_nart.tools.benchmark.records import Latency, Operations
from fairseq_nart.tools.reporting.collection import Collection

SCOPES = {"text": "text to text", "tokens": "tokens to tokens"}


@dataclass(frozen=True)
class Times:
    """Milliseconds per sentence, one sentence at a time."""

    mean: float
    median: float
    p95: float
    """95th percentile, linearly interpolated."""
    p99: float

    @classmethod
    def of(cls, latency: Latency) -> "Times":
        milliseconds = 1000 * np.array(latency.seconds)
        return cls(
            float(milliseconds.mean()), *map(float, np.percentile(milliseconds, [50, 95, 99]))
        )


def gigaflop_per_second(latency: Latency, counted: Operations | None) -> float | None:
    """The rate of the counted operations; None unless they were counted in timed sentences."""
    seconds = dict(zip(latency.sentences, latency.seconds, strict=True))
    if counted is None or not seconds.keys() >= set(counted.sentences):
        return None
    mean = sum(seconds[sentence] for sentence in counted.sentences) / len(counted.sentences)
    return counted.flop / 1e9 / mean


def floor(collection: Collection, counted: Operations) -> float | None:
    """The least milliseconds per sentence: its matrix products alone, at the highest rate that was
    measured with the same precision and threads. None without such a rate."""
    rates = [
        one.rate
        for one in collection.operations.values()
        if one.rate and (one.precision, one.threads) == (counted.precision, counted.threads)
    ]
    return 1000 * counted.flop / max(rates) if counted.rate else None


def speed_up(collection: Collection, system: str, data: str, scope: str, base: str) -> float | None:
    """Mean latency of `base` divided by the system's, from the same interleaved trials.

    None without such times. Interleaved trials have the same sentences.
    """
    ours = collection.latencies.get((system, data, scope))
    theirs = collection.interleaved.get((base, data, scope, ours.begun)) if ours else None
    if ours is None or theirs is None:
        return None
    return Times.of(theirs).mean / Times.of(ours).mean


def measured(collection: Collection) -> list[tuple[str, str]]:
    """The test sets and scopes with latencies; each gets a column."""
    known = {(data, scope) for _, data, scope in collection.latencies}
    return [(data, scope) for data in collection.data for scope in SCOPES if (data, scope) in known]


def main_scope(collection: Collection, data: str) -> str:
    """The scope to show in figures: the one with most systems; if equal, text to text."""

    def count(scope: str) -> int:
        return sum((name, data, scope) in collection.latencies for name in collection.systems)

    return max(SCOPES, key=count)

"""Compares the systems: quality, gaps, speed-ups."""

from dataclasses import dataclass

from fairseq_nart.tools.benchmark.records import Translation
from fairseq_nart.tools.reporting.collection import Collection
from fairseq_nart.tools.reporting.quality import Assessment, Quality, Swept
from fairseq_nart.tools.reporting.speed import SCOPES, Times, floor, measured, speed_up

PARAMETERS = {
    "crf_candidates": "candidates per position (K)",
    "trained_crf_candidates": "candidates per position (K), also in training",
    "crf_rank": "rank of the transitions (R)",
}
"""Descriptions of swept parameters."""


@dataclass(frozen=True)
class Comparison:
    """Everything a report compares."""

    collection: Collection
    assessments: dict[str, Assessment]
    """By test set, of the translated ones."""
    sweeps: dict[tuple[str, str], Swept]
    """By test set and parameter."""
    baseline: str
    """The system that speed-ups and significance are relative to."""
    teacher: str
    """The system that gaps are relative to."""
    tokenize: str

    def quality(self, system: str, data: str) -> Quality | None:
        """The scores of one translation; None without one."""
        assessment = self.assessments.get(data)
        return assessment.systems.get(system) if assessment else None

    def iterations(self, system: str, data: str) -> float | None:
        """Mean decoder passes per sentence; None for a system that does not refine."""
        text = self.collection.translations.get((system, data))
        counts = text.record.iterations if text and isinstance(text.record, Translation) else None
        return sum(counts) / len(counts) if counts else None

    def gap(self, system: str, data: str) -> float | None:
        """The teacher's BLEU minus the system's; None for the teacher or without both scores."""
        ours, theirs = self.quality(system, data), self.quality(self.teacher, data)
        if system == self.teacher or not ours or not theirs:
            return None
        return theirs.bleu - ours.bleu

    def times(self, system: str, data: str, scope: str) -> Times | None:
        """Latency; None where it was not measured."""
        latency = self.collection.latencies.get((system, data, scope))
        return Times.of(latency) if latency else None

    def speed_up(self, system: str, data: str, scope: str) -> float | None:
        """Speed-up over the baseline, see `speed.speed_up`."""
        return speed_up(self.collection, system, data, scope, self.baseline)

    def circumstance(self, system: str, name: str) -> str:
        """A field of a system's latencies, threads or precision, as text."""
        latencies = self.collection.latencies.items()
        values = [str(getattr(latency, name)) for key, latency in latencies if key[0] == system]
        return " / ".join(dict.fromkeys(values))


def notes(results: Comparison) -> list[str]:
    """Why cells of the main table are empty."""
    lines = []
    for data in results.assessments:
        if lacking := [s for s in results.collection.systems if not results.quality(s, data)]:
            lines.append(f"Not translated: {data} by {'; '.join(lacking)}.")
        if not results.quality(results.teacher, data):
            lines.append(
                f"No gaps on {data}: the teacher, {results.teacher}, did not translate it."
            )
    for data, scope in measured(results.collection):
        where, latencies = f"{data}, {SCOPES[scope]}", results.collection.latencies
        timed = [s for s in results.collection.systems if (s, data, scope) in latencies]
        if lacking := [s for s in results.collection.systems if s not in timed]:
            lines.append(f"Latency not measured ({where}): {'; '.join(lacking)}.")
        for system in timed if results.baseline in timed else ():
            if not results.speed_up(system, data, scope):
                lines.append(
                    f"No speed-up of {system} ({where}): it was not timed in interleaved trials "
                    f"with {results.baseline}; run the benchmark with both."
                )
    return lines


def csv_rows(results: Comparison) -> list[dict[str, object]]:
    """One row per system, with unrounded numbers; times in milliseconds, shares from 0 to 1."""
    rows, collection = [], results.collection
    for name, system in collection.systems.items():
        row: dict[str, object] = {"system": name, "family": system.family, "engine": system.engine}
        row["lengths"] = "" if system.lengths is None else system.lengths
        for data in results.assessments:
            if quality := results.quality(name, data):
                row |= {f"{data}: {key}": value for key, value in vars(quality).items()}
                row[f"{data}: gap"] = results.gap(name, data)
                row[f"{data}: iterations"] = results.iterations(name, data)
        for data, scope in measured(collection):
            if times := results.times(name, data, scope):
                where = f"{data}, {SCOPES[scope]}"
                row |= {f"{where}: {key} ms": value for key, value in vars(times).items()}
                row[f"{where}: speed_up"] = results.speed_up(name, data, scope)
        for (owner, data, batch), record in collection.throughputs.items():
            if owner == name:
                row[f"{data}: sentences per second, batch {batch}"] = record.sentences_per_second
        for (owner, data), memory in collection.memories.items():
            if owner == name:
                row[f"{data}: peak bytes"] = memory.peak_bytes
        for (owner, data), counted in collection.operations.items():
            if owner == name:
                row[f"{data}: operations"] = counted.flop
                if (least := floor(collection, counted)) is not None:
                    row[f"{data}: floor ms"] = least
        row["threads"] = results.circumstance(name, "threads")
        row["precision"] = results.circumstance(name, "precision")
        row["machine"], row["commit"] = str(system.machine), system.commit
        rows.append(row)
    return rows

"""What the records of the systems say beside each other."""

from dataclasses import dataclass

from fairseq_nart.tools.benchmark.records import Translation
from fairseq_nart.tools.reporting.collection import Collection
from fairseq_nart.tools.reporting.quality import Assessment, Quality, Swept
from fairseq_nart.tools.reporting.speed import SCOPES, Times, measured, speed_up

PARAMETERS = {
    "crf_candidates": "candidates per position (K)",
    "trained_crf_candidates": "candidates per position (K), trained so",
    "crf_rank": "rank of the transitions (R)",
}
"""What is swept, in words."""


@dataclass(frozen=True)
class Comparison:
    """Everything a report compares."""

    collection: Collection
    assessments: dict[str, Assessment]
    """By test set, of those that were translated."""
    sweeps: dict[tuple[str, str], Swept]
    """By test set and parameter."""
    baseline: str
    """The system of which speed-ups and significance are told."""
    teacher: str
    """The system to which gaps are told."""
    tokenize: str

    def quality(self, system: str, data: str) -> Quality | None:
        """The scores of one translation, None where there is none."""
        assessment = self.assessments.get(data)
        return assessment.systems.get(system) if assessment else None

    def iterations(self, system: str, data: str) -> float | None:
        """How often the decoder ran for a sentence, of a system that refines."""
        text = self.collection.translations.get((system, data))
        taken = text.record.iterations if text and isinstance(text.record, Translation) else None
        return sum(taken) / len(taken) if taken else None

    def gap(self, system: str, data: str) -> float | None:
        """BLEU by which the teacher is better."""
        ours, theirs = self.quality(system, data), self.quality(self.teacher, data)
        if system == self.teacher or not ours or not theirs:
            return None
        return theirs.bleu - ours.bleu

    def times(self, system: str, data: str, scope: str) -> Times | None:
        """Latency, None where it was not measured."""
        latency = self.collection.latencies.get((system, data, scope))
        return Times.of(latency) if latency else None

    def speed_up(self, system: str, data: str, scope: str) -> float | None:
        """Against the baseline."""
        return speed_up(self.collection, system, data, scope, self.baseline)

    def circumstance(self, system: str, name: str) -> str:
        """Threads or precision of a system's latencies."""
        latencies = self.collection.latencies.items()
        found = [str(getattr(latency, name)) for key, latency in latencies if key[0] == system]
        return " / ".join(dict.fromkeys(found))


def notes(of: Comparison) -> list[str]:
    """Why cells of the main table are empty."""
    said = []
    for data in of.assessments:
        if lacking := [s for s in of.collection.systems if not of.quality(s, data)]:
            said.append(f"Not translated: {data} by {'; '.join(lacking)}.")
        if not of.quality(of.teacher, data):
            said.append(f"No gaps on {data}: the teacher, {of.teacher}, did not translate it.")
    for data, scope in measured(of.collection):
        where, latencies = f"{data}, {SCOPES[scope]}", of.collection.latencies
        if lacking := [s for s in of.collection.systems if (s, data, scope) not in latencies]:
            said.append(f"Latency not measured ({where}): {'; '.join(lacking)}.")
        for system in of.collection.systems if (of.baseline, data, scope) in latencies else ():
            if (system, data, scope) in latencies and not of.speed_up(system, data, scope):
                said.append(
                    f"No speed-up of {system} ({where}): it was not timed in turns with "
                    f"{of.baseline}; run the benchmark with both."
                )
    return said


def csv_rows(of: Comparison) -> list[dict[str, object]]:
    """A row a system with all numbers in full; seconds are milliseconds, shares are not percent."""
    rows, found = [], of.collection
    for name, system in found.systems.items():
        row: dict[str, object] = {"system": name, "family": system.family, "engine": system.engine}
        row["lengths"] = "" if system.lengths is None else system.lengths
        for data in of.assessments:
            if quality := of.quality(name, data):
                row |= {f"{data}: {key}": value for key, value in vars(quality).items()}
                row[f"{data}: gap"] = of.gap(name, data)
                row[f"{data}: iterations"] = of.iterations(name, data)
        for data, scope in measured(found):
            if times := of.times(name, data, scope):
                where = f"{data}, {SCOPES[scope]}"
                row |= {f"{where}: {key} ms": value for key, value in vars(times).items()}
                row[f"{where}: speed_up"] = of.speed_up(name, data, scope)
        for (of_system, data, batch), record in found.throughputs.items():
            if of_system == name:
                row[f"{data}: sentences per second, batch {batch}"] = record.sentences_per_second
        for (of_system, data), memory in found.memories.items():
            if of_system == name:
                row[f"{data}: peak bytes"] = memory.peak_bytes
        for (of_system, data), counted in found.operations.items():
            if of_system == name:
                row[f"{data}: operations"] = counted.flop
        row["threads"] = of.circumstance(name, "threads")
        row["precision"] = of.circumstance(name, "precision")
        row["machine"], row["commit"] = str(system.machine), system.commit
        rows.append(row)
    return rows

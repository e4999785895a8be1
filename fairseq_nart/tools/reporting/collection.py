"""The records of several runs brought together, and refused where they do not compare."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from fairseq_nart.files import sha256_of_test
from fairseq_nart.tools.benchmark.records import (
    FILE,
    Latency,
    Measurement,
    Memory,
    Operations,
    Parts,
    Record,
    Sweep,
    System,
    Throughput,
    Translation,
    read,
)


@dataclass(frozen=True)
class Text:
    """A translated test set, read."""

    record: Translation | Sweep
    outputs: list[str]
    references: list[str]


@dataclass
class Collection:
    """What is known of each system, in the order of the records. Keys begin with system, data."""

    records: list[Record]
    systems: dict[str, System] = field(default_factory=dict)
    translations: dict[tuple[str, str], Text] = field(default_factory=dict)
    latencies: dict[tuple[str, str, str], Latency] = field(default_factory=dict)
    """By system, data and scope."""
    in_turns: dict[tuple[str, str, str, str], Latency] = field(default_factory=dict)
    """By system, data, scope and when the turns began; older ones than those of `latencies` too."""
    throughputs: dict[tuple[str, str, int], Throughput] = field(default_factory=dict)
    """By system, data and batch."""
    parts: dict[tuple[str, str], Parts] = field(default_factory=dict)
    memories: dict[tuple[str, str], Memory] = field(default_factory=dict)
    operations: dict[tuple[str, str], Operations] = field(default_factory=dict)
    sweeps: dict[tuple[str, str, str, int], Text] = field(default_factory=dict)
    """By system, data, parameter and value."""

    @property
    def data(self) -> list[str]:
        """The names of the test sets."""
        return list(dict.fromkeys(x.data for x in self.records if isinstance(x, Measurement)))

    def of_data(self, data: str) -> dict[str, Text]:
        """System to its translation of one test set."""
        found = {name: self.translations.get((name, data)) for name in self.systems}
        return {name: text for name, text in found.items() if text}

    def require(self, system: str, role: str) -> None:
        """ValueError where no system has this name."""
        if system not in self.systems:
            there = "; ".join(self.systems) or "none"
            raise ValueError(f"{role}: there is no system {system!r}. The systems are: {there}")


def collect(folders: Sequence[Path]) -> Collection:
    """The records of all run folders. ValueError says which do not go together."""
    runs = [(folder, read(folder)) for folder in folders]
    _same_systems(runs)
    # Of two records that say the same of the same thing the later counts.
    everything = [(folder, record) for folder, run in runs for record in run]
    latest = {record.subject: (folder, record) for folder, record in everything}
    found = list(latest.values())
    if not found:
        raise ValueError(f"{folders[0] / FILE} holds no records: run the benchmark again")
    _one_machine(found)
    _one_test_set_a_name(found)
    collection = Collection([record for _, record in found])
    # Sweeps last: they are scored with the references of the translations.
    for folder, record in sorted(found, key=lambda pair: isinstance(pair[1], Sweep)):
        _add(collection, folder, record)
    for _, record in everything:
        if isinstance(record, Latency):
            turns = (record.system, record.data, record.scope, record.begun)
            collection.in_turns[turns] = record
    _known_systems(collection)
    _one_precision(collection)
    return collection


def _add(to: Collection, folder: Path, record: Record) -> None:
    match record:
        case System():
            to.systems[record.name] = record
        case Translation():
            to.translations[record.system, record.data] = _translation(to, folder, record)
        case Latency():
            to.latencies[record.system, record.data, record.scope] = record
        case Throughput():
            to.throughputs[record.system, record.data, record.batch] = record
        case Parts():
            to.parts[record.system, record.data] = record
        case Memory():
            to.memories[record.system, record.data] = record
        case Operations():
            to.operations[record.system, record.data] = record
        case Sweep():
            key = (record.system, record.data, record.parameter, record.value)
            to.sweeps[key] = _sweep(to, folder, record)


def _translation(among: Collection, folder: Path, record: Translation) -> Text:
    what = f"{record.system} on {record.data}"
    references = _lines(folder / record.references, what)
    sources = _lines(folder / record.sources, what)
    if sha256_of_test(sources, references) != record.data_sha256:
        raise ValueError(
            f"{folder / record.sources} or {folder / record.references} has changed since {what} "
            "was recorded: make this run anew in an empty folder"
        )
    if record.predicted_lengths and len(record.predicted_lengths) != len(references):
        raise ValueError(
            f"{folder / FILE}: {what}: {len(record.predicted_lengths)} predicted_lengths for "
            f"{len(references)} references"
        )
    return _text(folder / record.outputs, what, record, references)


def _sweep(among: Collection, folder: Path, record: Sweep) -> Text:
    what = f"{record.system} on {record.data} with {record.parameter} {record.value}"
    of_same_data = [t for (_, data), t in among.translations.items() if data == record.data]
    if not of_same_data:
        raise ValueError(f"{what}: no translation of {record.data} brings its references")
    return _text(folder / record.outputs, what, record, of_same_data[0].references)


def _text(file: Path, what: str, record: Translation | Sweep, references: list[str]) -> Text:
    outputs = _lines(file, what)
    if len(outputs) != len(references):
        raise ValueError(
            f"{file}: {what} has {len(outputs)} lines but there are {len(references)} references: "
            "translate it again"
        )
    return Text(record, outputs, references)


def _lines(file: Path, what: str) -> list[str]:
    try:
        with open(file, encoding="utf-8", newline="\n") as stream:
            lines = [line.rstrip("\r\n") for line in stream]
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing ({what}): copy the run folder whole") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({what})") from error
    if not lines:
        raise ValueError(f"{file} is empty ({what})")
    return lines


_OF_A_ROW = ("family", "lengths", "engine")
_OF_A_SYSTEM = (*_OF_A_ROW, "checkpoint_sha256", "vocabulary_sha256", "options")


def _same_systems(runs: Sequence[tuple[Path, list[Record]]]) -> None:
    """A name means one system; on other test sets, such as another language's, one of its kind."""
    found = []
    for folder, records in runs:
        data = {record.data for record in records if isinstance(record, Measurement)}
        found += [(folder, data, record) for record in records if isinstance(record, System)]
    for (folder, data, one), (other_folder, other_data, other) in combinations(found, 2):
        if one.name != other.name:
            continue
        for name in _OF_A_SYSTEM if data & other_data else _OF_A_ROW:
            old, new = getattr(one, name), getattr(other, name)
            if old != new:
                raise ValueError(
                    f"two systems are called {one.name!r}: {name} is {old} in {folder / FILE} "
                    f"and {new} in {other_folder / FILE}: give one of them another name"
                )


def _one_machine(found: list[tuple[Path, Record]]) -> None:
    first_folder, first = found[0]
    for folder, record in found:
        if record.machine != first.machine:
            raise ValueError(
                f"{first_folder / FILE} was measured on {first.machine}; {folder / FILE} on "
                f"{record.machine}: two machines do not compare, make a report for each"
            )


def _one_test_set_a_name(found: list[tuple[Path, Record]]) -> None:
    seen: dict[str, tuple[Path, str]] = {}
    for folder, record in found:
        if isinstance(record, Measurement):
            first, sha = seen.setdefault(record.data, (folder, record.data_sha256))
            if sha != record.data_sha256:
                raise ValueError(
                    f"{record.data}: {folder / FILE} measured {record.system} on other sentences "
                    f"or references than {first / FILE}: give different test sets different names"
                )


def _known_systems(collection: Collection) -> None:
    for record in collection.records:
        if isinstance(record, Measurement):
            collection.require(record.system, f"{record.kind} of {record.data}")


def _one_precision(collection: Collection) -> None:
    """A row shows quality and speed side by side, so they must come of the same arithmetic."""
    seen: dict[str, Measurement] = {}
    for record in collection.records:
        if isinstance(record, Measurement):
            before = seen.setdefault(record.system, record)
            if before.precision != record.precision:
                raise ValueError(
                    f"{record.system}: {before.kind} was measured in {before.precision} but "
                    f"{record.kind} in {record.precision}: make these two systems"
                )

"""Combines the records of several runs; refuses those that are not comparable."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from fairseq_nart.errors import UserError
from fairseq_nart.files import sha256_of_test
from fairseq_nart.tools.benchmark.records import (
    FILE,
    Latency,
    Measurement,
    Memory,
    Operations,
    Parts,
    Record,
    SourceLength,
    Sweep,
    System,
    Throughput,
    Translation,
    read,
)


@dataclass(frozen=True)
class Text:
    """A translated test set, with the content of its files."""

    record: Translation | Sweep
    outputs: list[str]
    references: list[str]


@dataclass
class Collection:
    """All measurements, in the order of the records. Keys begin with system and data."""

    records: list[Record]
    systems: dict[str, System] = field(default_factory=dict)
    translations: dict[tuple[str, str], Text] = field(default_factory=dict)
    latencies: dict[tuple[str, str, str], Latency] = field(default_factory=dict)
    """By system, data and scope."""
    interleaved: dict[tuple[str, str, str, str], Latency] = field(default_factory=dict)
    """By system, data, scope and start of the interleaved trials, older trials included."""
    source_lengths: dict[tuple[str, str, int], SourceLength] = field(default_factory=dict)
    """By system, data and tokens."""
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

    def texts_on(self, data: str) -> dict[str, Text]:
        """System to its translation of one test set."""
        texts = {name: self.translations.get((name, data)) for name in self.systems}
        return {name: text for name, text in texts.items() if text}

    def require(self, system: str, role: str) -> None:
        """UserError where no system has this name."""
        if system not in self.systems:
            known = "; ".join(self.systems) or "none"
            raise UserError(f"{role}: no system is called {system!r}. The systems are: {known}")


def collect(folders: Sequence[Path]) -> Collection:
    """The records of all run folders. UserError names those that are not comparable."""
    runs = [(folder, read(folder)) for folder in folders]
    _same_systems(runs)
    # Of two records with the same subject, the later counts.
    everything = [(folder, record) for folder, run in runs for record in run]
    latest = list({record.subject: (folder, record) for folder, record in everything}.values())
    if not latest:
        raise UserError(f"{folders[0] / FILE} holds no records: run the benchmark again")
    _one_machine(latest)
    _one_test_set_per_name(latest)
    collection = Collection([record for _, record in latest])
    # Sweeps last: they are scored with the references of the translations.
    for folder, record in sorted(latest, key=lambda pair: isinstance(pair[1], Sweep)):
        _add(collection, folder, record)
    for _, record in everything:
        if isinstance(record, Latency):
            trials = (record.system, record.data, record.scope, record.begun)
            collection.interleaved[trials] = record
    _known_systems(collection)
    _one_precision(collection)
    return collection


def _add(to: Collection, folder: Path, record: Record) -> None:
    match record:
        case System():
            to.systems[record.name] = record
        case Translation():
            to.translations[record.system, record.data] = _translation(folder, record)
        case Latency():
            to.latencies[record.system, record.data, record.scope] = record
        case SourceLength():
            to.source_lengths[record.system, record.data, record.tokens] = record
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


def _translation(folder: Path, record: Translation) -> Text:
    what = f"{record.system} on {record.data}"
    references = _lines(folder / record.references, what)
    sources = _lines(folder / record.sources, what)
    if sha256_of_test(sources, references) != record.data_sha256:
        raise UserError(
            f"{folder / record.sources} or {folder / record.references} has changed since {what} "
            "was recorded: run the benchmark again in an empty folder"
        )
    if record.predicted_lengths and len(record.predicted_lengths) != len(references):
        raise UserError(
            f"{folder / FILE}: {what}: {len(record.predicted_lengths)} predicted_lengths for "
            f"{len(references)} references"
        )
    return _text(folder / record.outputs, what, record, references)


def _sweep(collection: Collection, folder: Path, record: Sweep) -> Text:
    what = f"{record.system} on {record.data} with {record.parameter} {record.value}"
    same_data = [t for (_, data), t in collection.translations.items() if data == record.data]
    if not same_data:
        raise UserError(
            f"{what}: its references are missing, as no system translated {record.data}"
        )
    return _text(folder / record.outputs, what, record, same_data[0].references)


def _text(file: Path, what: str, record: Translation | Sweep, references: list[str]) -> Text:
    outputs = _lines(file, what)
    if len(outputs) != len(references):
        raise UserError(
            f"{file}: {what} has {len(outputs)} lines for {len(references)} references: translate "
            "it again"
        )
    return Text(record, outputs, references)


def _lines(file: Path, what: str) -> list[str]:
    try:
        with open(file, encoding="utf-8", newline="\n") as stream:
            lines = [line.rstrip("\r\n") for line in stream]
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing ({what}): copy the complete run folder") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({what})") from error
    if not lines:
        raise UserError(f"{file} is empty ({what})")
    return lines


_ROW_FIELDS = ("family", "lengths", "engine")
_SYSTEM_FIELDS = (*_ROW_FIELDS, "checkpoint_sha256", "vocabulary_sha256", "options")


def _same_systems(runs: Sequence[tuple[Path, list[Record]]]) -> None:
    """UserError if one name is used for different systems.

    On different test sets, such as those of another language, their kind must be the same.
    """
    systems = []
    for folder, records in runs:
        data = {record.data for record in records if isinstance(record, Measurement)}
        systems += [(folder, data, record) for record in records if isinstance(record, System)]
    for (folder, data, one), (other_folder, other_data, other) in combinations(systems, 2):
        if one.name != other.name:
            continue
        for name in _SYSTEM_FIELDS if data & other_data else _ROW_FIELDS:
            old, new = getattr(one, name), getattr(other, name)
            if old != new:
                raise UserError(
                    f"two systems are called {one.name!r}: {name} is {old} in {folder / FILE} "
                    f"and {new} in {other_folder / FILE}: rename one of them"
                )


def _one_machine(records: list[tuple[Path, Record]]) -> None:
    first_folder, first = records[0]
    for folder, record in records:
        if record.machine != first.machine:
            raise UserError(
                f"{first_folder / FILE} was measured on {first.machine}; {folder / FILE} on "
                f"{record.machine}: two machines are not comparable, make a report for each"
            )


def _one_test_set_per_name(records: list[tuple[Path, Record]]) -> None:
    seen: dict[str, tuple[Path, str]] = {}
    for folder, record in records:
        if isinstance(record, Measurement):
            first, sha = seen.setdefault(record.data, (folder, record.data_sha256))
            if sha != record.data_sha256:
                raise UserError(
                    f"{record.data}: {folder / FILE} measured {record.system} on other sentences "
                    f"or references than {first / FILE}: give different test sets different names"
                )


def _known_systems(collection: Collection) -> None:
    for record in collection.records:
        if isinstance(record, Measurement):
            collection.require(record.system, f"{record.kind} of {record.data}")


def _one_precision(collection: Collection) -> None:
    """A row shows quality and speed side by side, so both need the same arithmetic."""
    seen: dict[str, Measurement] = {}
    for record in collection.records:
        if isinstance(record, Measurement):
            before = seen.setdefault(record.system, record)
            if before.precision != record.precision:
                raise UserError(
                    f"{record.system}: {before.kind} was measured in {before.precision} but "
                    f"{record.kind} in {record.precision}: make them two systems"
                )

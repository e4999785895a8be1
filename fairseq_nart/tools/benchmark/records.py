"""What a benchmark writes and a report reads: `records.jsonl` in a run folder, a record a line.

Records are appended as they are measured; of two that measure the same thing the later counts. A
last line that was cut while it was written is no record.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

from fairseq_nart.files import locked
from fairseq_nart.tools.benchmark.typed import build

FILE = "records.jsonl"

Scope = Literal["tokens", "text"]
"""What a time spans: token ids to token ids, or raw text to raw text."""

PARTS = (
    *("batch", "encoder", "length", "decoder", "candidates", "transitions", "viterbi", "clean"),
    *("rescoring", "pick", "search"),
)
"""Of the time of a sentence, in the order in which they run; `search` is the own work of
a beam search, a teacher's or CTC's."""

Parameter = Literal["crf_candidates", "trained_crf_candidates", "crf_rank"]
"""What a sweep changes: K in decoding alone, K in training and decoding, or R."""

OTHER = "other"
"""The part of the time that no named part explains."""


@dataclass(frozen=True)
class Machine:
    """Where something was measured. Times of two machines do not compare."""

    cpu: str
    cores: int
    memory_gib: float
    device: str
    """What the models ran on: "cpu", or the name of the GPU."""

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.memory_gib:g} GiB, device {self.device}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every record carries: the circumstances under which it was measured."""

    kind: ClassVar[str]
    identity: ClassVar[tuple[str, ...]]
    """The fields in which two records agree when they say the same of the same thing."""
    machine: Machine
    threads: int
    precision: str
    """Such as float32, bfloat16, int8."""
    versions: dict[str, str]
    """Library to version."""
    commit: str
    time: str
    """When it was measured, ISO 8601."""

    @property
    def subject(self) -> tuple[object, ...]:
        """What the record is about; of two with one subject the later counts."""
        return self.kind, *(getattr(self, name) for name in self.identity)


@dataclass(frozen=True, kw_only=True)
class System(Record):
    """One way of translating: a row of the table. The other records refer to its name."""

    kind = "system"
    identity = ("name",)
    name: str
    family: str
    """What the figures show in one colour, such as NART-DCRF."""
    lengths: int | None
    """Length candidates decoded in parallel; None for a system that has none."""
    engine: str
    """What runs it: fairseq_nart, fairseq or ctranslate2."""
    checkpoint: str
    checkpoint_sha256: str
    vocabulary_sha256: str
    """Of the dictionaries and the sentencepiece model."""
    options: dict[str, Any]
    """Of decoding; files by name and digest."""


@dataclass(frozen=True, kw_only=True)
class Measurement(Record):
    """What all other records say: of which system, on which test set."""

    identity: ClassVar[tuple[str, ...]] = ("system", "data")
    system: str
    data: str
    """The test set's name, as the table shows it."""
    data_sha256: str
    """Of its sources and references, see `sha256_of_test`."""


@dataclass(frozen=True, kw_only=True)
class Translation(Measurement):
    """A translated test set. Paths are relative to the run folder; UTF-8, a line a sentence."""

    kind = "translation"
    sources: str
    references: str
    outputs: str
    predicted_lengths: list[int] | None = None
    """The target length the model predicted for each sentence, in tokens."""
    reference_lengths: list[int] | None = None
    """Of each reference, in the same tokens."""
    iterations: list[int] | None = None
    """Of a system that refines: passes of the decoder for each sentence."""

    def __post_init__(self) -> None:
        predicted, true = (len(x or []) for x in (self.predicted_lengths, self.reference_lengths))
        if predicted != true:
            raise ValueError(f"{predicted} predicted_lengths but {true} reference_lengths")


@dataclass(frozen=True, kw_only=True)
class Latency(Measurement):
    """Sentences translated one at a time: batch 1."""

    kind = "latency"
    identity = ("system", "data", "scope")
    scope: Scope
    seconds: list[float]
    """One for each translated sentence."""
    target_tokens: list[int]
    """How many each output has."""
    sentences: list[int]
    """Which sentences of the test set these were, counted from 0."""
    repeats: int
    """How often each was translated; the median of its times counts."""
    begun: str
    """When the turns began of which these are a part, ISO 8601: only times of the same turns are
    divided by each other."""

    def __post_init__(self) -> None:
        sizes = {len(self.seconds), len(self.target_tokens), len(self.sentences)}
        if len(sizes) != 1 or not self.seconds:
            raise ValueError("seconds, target_tokens and sentences need one entry per sentence")
        _positive("seconds", min(self.seconds))


@dataclass(frozen=True, kw_only=True)
class Throughput(Measurement):
    """How much is translated per second, `batch` sentences at a time."""

    kind = "throughput"
    identity = ("system", "data", "batch")
    batch: int
    sentences_per_second: float
    tokens_per_second: float
    """Target tokens."""

    def __post_init__(self) -> None:
        for name in ("batch", "sentences_per_second", "tokens_per_second"):
            _positive(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Parts(Measurement):
    """Where the time of a sentence goes."""

    kind = "parts"
    seconds: dict[str, float]
    """Mean seconds per sentence by part: those of PARTS that the system has, or others."""
    total: float
    """Mean seconds per sentence, measured around everything."""
    sentences: list[int]
    """Which sentences of the test set these were, counted from 0."""

    def __post_init__(self) -> None:
        _positive("total", self.total)

    @property
    def other(self) -> float:
        """Mean seconds per sentence that no part explains; noise can make it negative."""
        return self.total - sum(self.seconds.values())


@dataclass(frozen=True, kw_only=True)
class Memory(Measurement):
    """The most memory that translating took."""

    kind = "memory"
    peak_bytes: int
    sentences: list[int]
    """Which sentences of the test set these were, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class Operations(Measurement):
    """How much is computed for a sentence translated alone."""

    kind = "operations"
    flop: float
    """Mean floating-point operations of the products of matrices, two for each pair of factors."""
    sentences: list[int]
    """Which sentences of the test set these were, counted from 0."""

    def __post_init__(self) -> None:
        _positive("flop", self.flop)


@dataclass(frozen=True, kw_only=True)
class Sweep(Measurement):
    """The test set translated with one option of the system changed."""

    kind = "sweep"
    identity = ("system", "data", "parameter", "value", "checkpoint_sha256")
    parameter: Parameter
    value: int
    checkpoint_sha256: str
    outputs: str
    """Relative to the run folder; the references are those of the test set's translations."""

    def __post_init__(self) -> None:
        _positive("value", self.value)


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"{name} must be above 0, not {value}")


KINDS: dict[str, type[Record]] = {
    kind.kind: kind
    for kind in (System, Translation, Latency, Throughput, Parts, Memory, Operations, Sweep)
}


def write(folder: Path, record: Record) -> None:
    """Appends one record; several processes may. What a cut write left behind is removed."""
    line = json.dumps({"kind": record.kind, **dataclasses.asdict(record)}, ensure_ascii=False)
    _parse(line)
    file = folder / FILE
    with locked(file), open(file, "rb+") as stream:
        before = stream.read()
        tail = before[before.rfind(b"\n") + 1 :]
        if tail and _is_json(tail):
            stream.write(b"\n")
        else:
            stream.truncate(len(before) - len(tail))
            stream.seek(0, 2)
        stream.write(f"{line}\n".encode())


def read(folder: Path) -> list[Record]:
    """The records of a run folder in their order; ValueError names the file and the line."""
    file = folder / FILE
    if not file.exists():
        raise ValueError(f"{folder} holds no {FILE}: name a folder that a benchmark wrote")
    *lines, tail = file.read_bytes().split(b"\n")
    if tail and _is_json(tail):
        lines.append(tail)
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_parse(line))
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
    return records


def _is_json(line: bytes) -> bool:
    """Whether a line that lacks its end is whole; the beginning of an object is no JSON."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _parse(line: bytes | str) -> Record:
    try:
        content = json.loads(line, parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error
    name = content.pop("kind", None) if isinstance(content, dict) else None
    if name not in KINDS:
        raise ValueError(f"unknown kind {name!r}: it is one of {', '.join(KINDS)}")
    try:
        record: Record = build(KINDS[name], content)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return record


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} cannot have been measured")

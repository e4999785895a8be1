"""The records that a benchmark writes and a report reads: one per line of `records.jsonl`.

Records are appended as they are measured. Of two that measure the same thing, the later counts. A
partial last line is ignored.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

from fairseq_nart.errors import UserError
from fairseq_nart.files import locked
from fairseq_nart.tools.benchmark.schema import build

FILE = "records.jsonl"

Scope = Literal["tokens", "text"]
"""What a time includes: token ids to token ids, or raw text to raw text."""

PARTS = (
    *("batch", "encoder", "phrases", "length", "latents", "decoder", "candidates", "transitions"),
    *("viterbi", "clean", "rescoring", "pick", "search"),
)
"""Parts of the time of a sentence, in order; `search` is the overhead of a beam search, a
teacher's or CTC's."""

Parameter = Literal["crf_candidates", "trained_crf_candidates", "crf_rank"]
"""What a sweep varies: K in decoding only, K in training and decoding, or R."""

OTHER = "other"
"""The time that belongs to no named part."""


@dataclass(frozen=True)
class Machine:
    """Where something was measured. Times of two machines are not comparable."""

    cpu: str
    cores: int
    memory_gib: float
    device: str
    """The device the models ran on: "cpu", or the name of the GPU."""

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.memory_gib:g} GiB, device {self.device}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """The fields of every record: the circumstances of the measurement."""

    kind: ClassVar[str]
    identity: ClassVar[tuple[str, ...]]
    """The fields that identify what was measured."""
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
        """What was measured; of two records with the same subject, the later counts."""
        return self.kind, *(getattr(self, name) for name in self.identity)


@dataclass(frozen=True, kw_only=True)
class System(Record):
    """A way to translate: one row of the table. The other records refer to its name."""

    kind = "system"
    identity = ("name",)
    name: str
    family: str
    """Systems that figures show in one colour, such as NART-DCRF."""
    lengths: int | None
    """Length candidates decoded in parallel; None for a system without them."""
    engine: str
    """fairseq_nart, fairseq, ctranslate2 or onnx."""
    checkpoint: str
    checkpoint_sha256: str
    vocabulary_sha256: str
    """Digest of the dictionaries and the sentencepiece model."""
    options: dict[str, Any]
    """Decoding options; files as name and digest."""


@dataclass(frozen=True, kw_only=True)
class Measurement(Record):
    """The fields of all other records: the system and the test set."""

    identity: ClassVar[tuple[str, ...]] = ("system", "data")
    system: str
    data: str
    """The name of the test set in tables."""
    data_sha256: str
    """Digest of its sources and references, see `sha256_of_test`."""


@dataclass(frozen=True, kw_only=True)
class Translation(Measurement):
    """A translated test set. Paths are relative to the run folder; files have one sentence per
    line, in UTF-8."""

    kind = "translation"
    sources: str
    references: str
    outputs: str
    predicted_lengths: list[int] | None = None
    """The predicted target length of each sentence, in tokens."""
    reference_lengths: list[int] | None = None
    """The length of each reference, in the same tokens."""
    iterations: list[int] | None = None
    """For systems that refine: decoder passes for each sentence."""

    def __post_init__(self) -> None:
        predicted, true = (len(x or []) for x in (self.predicted_lengths, self.reference_lengths))
        if predicted != true:
            raise UserError(f"{predicted} predicted_lengths but {true} reference_lengths")


@dataclass(frozen=True, kw_only=True)
class Latency(Measurement):
    """Times of sentences translated one at a time: batch 1."""

    kind = "latency"
    identity = ("system", "data", "scope")
    scope: Scope
    seconds: list[float]
    """One for each timed sentence."""
    target_tokens: list[int]
    """One for each timed sentence."""
    sentences: list[int]
    """The timed sentences of the test set, counted from 0."""
    repeats: int
    """How often each was translated; its time is the median."""
    begun: str
    """When the interleaved trials began, ISO 8601. Only times of the same trials are compared in
    speed-ups."""

    def __post_init__(self) -> None:
        sizes = {len(self.seconds), len(self.target_tokens), len(self.sentences)}
        if len(sizes) != 1 or not self.seconds:
            raise UserError("seconds, target_tokens and sentences need one entry per sentence")
        _positive("seconds", min(self.seconds))


@dataclass(frozen=True, kw_only=True)
class SourceLength(Measurement):
    """Times of sentences of one length, made of the test set's, translated one at a time."""

    kind = "source_length"
    identity = ("system", "data", "tokens")
    tokens: int
    """About the subwords of each source."""
    seconds: list[float]
    """One for each sentence, from raw text to raw text."""
    repeats: int
    """How often each was translated; its time is the median."""
    begun: str
    """When the interleaved trials of the systems began, ISO 8601."""

    def __post_init__(self) -> None:
        _positive("tokens", self.tokens)
        if not self.seconds:
            raise UserError("seconds need one entry per sentence")
        _positive("seconds", min(self.seconds))


@dataclass(frozen=True, kw_only=True)
class Throughput(Measurement):
    """Sentences and tokens translated per second, in batches of `batch` sentences."""

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
    """The time of a sentence by part."""

    kind = "parts"
    seconds: dict[str, float]
    """Mean seconds per sentence by part, of PARTS or others."""
    total: float
    """Mean seconds per sentence, measured as a whole."""
    sentences: list[int]
    """The timed sentences of the test set, counted from 0."""

    def __post_init__(self) -> None:
        _positive("total", self.total)

    @property
    def other(self) -> float:
        """Mean seconds per sentence outside all parts; noise can make it negative."""
        return self.total - sum(self.seconds.values())


@dataclass(frozen=True, kw_only=True)
class Memory(Measurement):
    """Peak memory of translating sentences one at a time."""

    kind = "memory"
    peak_bytes: int
    sentences: list[int]
    """The translated sentences of the test set, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class Operations(Measurement):
    """The amount of computation for a sentence translated alone."""

    kind = "operations"
    flop: float
    """Mean operations of matrix products, in integers too; a multiply-add counts as two."""
    sentences: list[int]
    """The translated sentences of the test set, counted from 0."""
    rate: float | None = None
    """For engine onnx: operations per second of one fast matrix product with the same kernels."""

    def __post_init__(self) -> None:
        _positive("flop", self.flop)
        if self.rate is not None:
            _positive("rate", self.rate)


@dataclass(frozen=True, kw_only=True)
class Sweep(Measurement):
    """The test set translated with one parameter of the system changed."""

    kind = "sweep"
    identity = ("system", "data", "parameter", "value", "checkpoint_sha256")
    parameter: Parameter
    value: int
    checkpoint_sha256: str
    outputs: str
    """Path relative to the run folder; the references are in the test set's translation records."""

    def __post_init__(self) -> None:
        _positive("value", self.value)


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise UserError(f"{name} must be above 0, not {value}")


KINDS: dict[str, type[Record]] = {
    kind.kind: kind
    for kind in (
        *(System, Translation, Latency, SourceLength, Throughput, Parts, Memory, Operations),
        Sweep,
    )
}


def write(folder: Path, record: Record) -> None:
    """Appends one record and removes a partial last line; safe with several processes."""
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
    """The records of a run folder in order; UserError names the file and the line of a bad one."""
    file = folder / FILE
    if not file.exists():
        raise UserError(f"{folder} holds no {FILE}: give the run folder of a benchmark")
    *lines, tail = file.read_bytes().split(b"\n")
    if tail and _is_json(tail):
        lines.append(tail)
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_parse(line))
        except UserError as error:
            raise UserError(f"{file}, line {number}: {error}") from error
    return records


def _is_json(line: bytes) -> bool:
    """Whether a last line without a line feed is complete; part of an object is not JSON."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _parse(line: bytes | str) -> Record:
    try:
        content = json.loads(line, parse_constant=_refuse)
    except ValueError as error:
        raise UserError(f"not JSON: {error}") from error
    name = content.pop("kind", None) if isinstance(content, dict) else None
    if name not in KINDS:
        raise UserError(f"unknown kind {name!r}: expected one of {', '.join(KINDS)}")
    try:
        record: Record = build(KINDS[name], content)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return record


def _refuse(constant: str) -> NoReturn:
    raise UserError(f"{constant} is not a possible measurement")

"""A benchmark run: its systems, test sets, existing records and folder."""

import contextlib
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from urllib.parse import quote

from tqdm import tqdm

from fairseq_nart.errors import UserError
from fairseq_nart.files import (
    read_json,
    replacing,
    sha256,
    sha256_of_test,
    write_json,
)
from fairseq_nart.text import read_lines
from fairseq_nart.tools.benchmark import circumstances, prepared
from fairseq_nart.tools.benchmark.engines import Layout, layouts
from fairseq_nart.tools.benchmark.plan import Plan, SystemPlan, TestSet
from fairseq_nart.tools.benchmark.records import (
    FILE,
    Measurement,
    Record,
    System,
    read,
    write,
)
from fairseq_nart.tools.benchmark.worker import Worker

R = TypeVar("R", bound=Record)

Purpose = Literal["latency", "throughput"]
"""One sentence at a time, or batches."""


@dataclass(frozen=True)
class Text:
    """A test set in the run folder."""

    name: str
    sha256: str
    sources: list[str]
    references: list[str]
    chosen: list[int]
    """Indices of the sentences that are timed."""

    @property
    def timed(self) -> list[str]:
        """The sources that are timed."""
        return [self.sources[index] for index in self.chosen]

    def spread(self, count: int) -> list[str]:
        """`count` non-empty sources from the whole text, repeated if there are too few."""
        words = [line for line in self.sources if line.strip()]
        step = max(1, len(words) / count)
        return [words[int(n * step) % len(words)] for n in range(count)]


class Session:
    """One benchmark run. What its folder already records is not measured again."""

    def __init__(self, plan: Plan, out: Path, device: str, sentences: int) -> None:
        self.plan, self.out, self.device = plan, out, device
        self.records = {x.subject: x for x in read(out)} if (out / FILE).exists() else {}
        self.machine = circumstances.machine(device)
        self.commit = circumstances.commit()
        self.subwords = plan.subwords()
        self.layouts = _Layouts(out / "threads.json")
        self.texts = [_text(test, sentences) for test in plan.tests]
        self._require_same_circumstances()
        self.runnable = self._runnable()

    def _require_same_circumstances(self) -> None:
        """UserError if the folder has records of another machine or of a changed test set."""
        now = {text.name: text.sha256 for text in self.texts}
        for record in self.records.values():
            if record.machine != self.machine:
                raise UserError(
                    f"{self.out / FILE} was measured on {record.machine}; this is {self.machine}: "
                    "give another --out"
                )
            if not isinstance(record, Measurement):
                continue
            if now.get(record.data, record.data_sha256) != record.data_sha256:
                raise UserError(
                    f"{self.out / FILE}: {record.data!r} was measured with other sentences or "
                    "references: rename the test set, or give another --out"
                )

    def known(self, kind: type[R], **identity: object) -> R | None:
        """The record of this kind and identity, if any."""
        subject = (kind.kind, *(identity[name] for name in kind.identity))
        return cast(R | None, self.records.get(subject))

    def find_layouts(self, workers: Sequence[Worker], purpose: Purpose) -> None:
        """Finds the fastest layout of each system whose layout is unknown."""
        self.layouts.find(workers, self.texts[0], purpose)

    def layout(self, plan: SystemPlan, purpose: Purpose) -> Layout:
        """The fastest layout of a system."""
        return self.layouts.best(plan, purpose)

    def write(self, kind: type[R], worker: Worker, layout: Layout, **fields: Any) -> R:
        """Writes a record of a measurement by `worker`."""
        record = kind(
            machine=self.machine,
            threads=layout.total,
            precision=worker.plan.precision,
            versions=circumstances.versions(worker.about["libraries"]),
            commit=self.commit,
            time=circumstances.now(),
            **fields,
        )
        write(self.out, record)
        self.records[record.subject] = record
        return record

    def files(self, text: Text) -> dict[str, str]:
        """Writes the test set to the folder; returns the fields of its translation record."""
        return {x: self.write_text(getattr(text, x), "texts", f"{text.name}.{x}") for x in SIDES}

    def write_text(self, lines: list[str], *name: str) -> str:
        """Writes lines to the file `name`.txt; returns its path relative to the run folder."""
        file = self.file(*name[:-1], f"{name[-1]}.txt")
        with replacing(file) as temporary:
            text = "".join(f"{line}\n" for line in lines)
            temporary.write_text(text, encoding="utf-8", newline="\n")
        return str(file.relative_to(self.out))

    def file(self, *name: str) -> Path:
        """A path in the run folder; special characters in names are escaped."""
        file = self.out.joinpath(*(quote(part, safe=" ,=+()") for part in name))
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def start(self, plan: SystemPlan) -> Worker:
        """Starts the process of a system."""
        model = prepared.model(plan, self.plan, self.out)
        return Worker(plan, model, self.plan.subwords, self.device)

    @contextlib.contextmanager
    def workers(self) -> Iterator[list[Worker]]:
        """Starts all systems' processes, with their best layouts, and writes their records."""
        with contextlib.ExitStack() as stack, _ending_when_terminated():
            started = [
                stack.enter_context(self.start(plan))
                for plan in tqdm(self.runnable, desc="loading", unit="system")
            ]
            self.find_layouts(started, "latency")
            for worker in started:
                self._prepare(worker)
            yield started

    def _runnable(self) -> list[SystemPlan]:
        """All systems that can run here; prints why others are left out. UserError if none can."""
        systems = self.plan.systems
        excluded: list[tuple[str, list[SystemPlan]]] = []
        for engine, install in prepared.lacking().items():
            excluded.append((install, [x for x in systems if x.engine == engine]))
        if self.device != "cpu":
            exported = [x for x in systems if x.engine == "onnx"]
            excluded.append(("engine onnx needs a CPU", exported))
        for why, without in excluded:
            if without:
                print(f"{len(without)} systems are left out, because {why}")
            systems = [x for x in systems if x not in without]
        if not systems:
            raise UserError("no system is left to measure")
        return systems

    def _prepare(self, worker: Worker) -> None:
        """Sets a system's layout and writes its record. UserError if an older one differs."""
        plan = worker.plan
        layout = self.layout(plan, "latency")
        worker.call("lay_out", layout)
        about = {
            "name": plan.name,
            "family": plan.family,
            "lengths": worker.about["lengths"],
            "engine": worker.about["name"],
            "checkpoint_sha256": sha256(plan.checkpoint),
            "vocabulary_sha256": self.plan.vocabulary_sha256,
            "options": {name: _identified(name, value) for name, value in plan.options.items()},
        }
        if before := self.known(System, name=plan.name):
            own = {**about, "precision": plan.precision, "threads": layout.total}
            for name, value in own.items():
                if getattr(before, name) != value:
                    raise UserError(
                        f"{self.out / FILE}: {plan.name!r} was measured with {name} "
                        f"{getattr(before, name)}, now it is {value}: rename the system, or give "
                        "another --out"
                    )
        else:
            self.write(System, worker, layout, checkpoint=str(plan.checkpoint), **about)


@contextlib.contextmanager
def _ending_when_terminated() -> Iterator[None]:
    """Makes SIGTERM end the program as Ctrl-C does, so that no stopped processes are left."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Layouts:
    """The best layout of each system, found once and saved in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tried: dict[str, Any] = read_json(file) or {}

    def find(self, workers: Sequence[Worker], text: Text, purpose: Purpose) -> None:
        """Tries all layouts in interleaved trials, so that slow moments affect all equally."""
        trials = []
        for worker in workers:
            if worker.plan.threads is None and _key(worker.plan, purpose) not in self.tried:
                streams = purpose == "throughput" and worker.about["can_stream"]
                trials += [(worker, x) for x in layouts(circumstances.cores(), streams)]
        rounds = range(ROUNDS if trials else 0)
        timings = [
            [_trial(worker, layout, text, purpose) for worker, layout in trials]
            for _ in tqdm(rounds, desc=f"threads for {purpose}", unit="round")
        ]
        for (worker, layout), *seconds in zip(trials, *timings):
            rows = self.tried.setdefault(_key(worker.plan, purpose), [])
            rows.append([layout.threads, layout.streams, statistics.median(seconds)])
        for key in dict.fromkeys(_key(worker.plan, purpose) for worker, _ in trials):
            tried = ", ".join(f"{Layout(t, s)} {1e3 * x:.1f} ms" for t, s, x in self.tried[key])
            tqdm.write(f"{key}: {tried}")
        write_json(self.file, self.tried)

    def best(self, plan: SystemPlan, purpose: Purpose) -> Layout:
        if plan.threads is not None:
            return Layout(plan.threads)
        threads, streams, _ = min(self.tried[_key(plan, purpose)], key=lambda row: row[2])
        return Layout(threads, streams)


def _key(plan: SystemPlan, purpose: Purpose) -> str:
    return f"{plan.name}: {purpose}"


ROUNDS = 5
"""Trials of each layout; their median counts."""
TRIAL_SENTENCES, TRIAL_BATCH = 10, 16


def _trial(worker: Worker, layout: Layout, text: Text, purpose: Purpose) -> float:
    """Seconds per sentence with a layout."""
    worker.call("lay_out", layout)
    if purpose == "latency":
        timed = worker.call("time", text.spread(TRIAL_SENTENCES))
        return float(sum(one.tokens for one in timed) / len(timed))
    lines = text.spread(2 * TRIAL_BATCH * circumstances.cores())
    worker.call("throughput", lines[:TRIAL_BATCH], TRIAL_BATCH)
    seconds, _ = worker.call("throughput", lines, TRIAL_BATCH)
    return float(seconds / len(lines))


def _identified(option: str, value: Any) -> Any:
    """An option's value; for a teacher, the file's name and digest instead of its path."""
    if option != "rescore_with":
        return value
    return f"{Path(value).name} (SHA-256 {sha256(Path(value))[:12]})"


SIDES = ("sources", "references")


def _text(test: TestSet, sentences: int) -> Text:
    """Reads a test set and chooses the sentences to time."""
    files = (Path(test.source), Path(test.references))
    sides = {side: read_lines(file) for side, file in zip(SIDES, files, strict=True)}
    count = len(sides["sources"])
    if count != len(sides["references"]):
        raise UserError(
            f"{test.source} has {count} lines, {test.references} {len(sides['references'])}"
        )
    timed = [index for index in range(count) if sides["sources"][index].strip()]
    if not timed:
        raise UserError(f"{test.source} is empty")
    step = max(1, len(timed) / sentences)
    chosen = [timed[int(n * step)] for n in range(min(sentences, len(timed)))]
    return Text(test.name, sha256_of_test(**sides), **sides, chosen=chosen)

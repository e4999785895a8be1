"""A run folder that fills with records: systems under test, their texts, what is there already."""

import contextlib
import os
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from urllib.parse import quote

from tqdm import tqdm

from fairseq_nart.files import (
    read_json,
    replacing,
    sha256,
    sha256_of_test,
    write_json,
)
from fairseq_nart.text import read_lines
from fairseq_nart.tools import _ctranslate2
from fairseq_nart.tools.benchmark import circumstances
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
    """The sentences that are timed."""

    @property
    def timed(self) -> list[str]:
        """Their sources."""
        return [self.sources[index] for index in self.chosen]

    def spread(self, count: int) -> list[str]:
        """So many sources with words, from all over the text; repeated where they are too few."""
        words = [line for line in self.sources if line.strip()]
        step = max(1, len(words) / count)
        return [words[int(n * step) % len(words)] for n in range(count)]


class Session:
    """One benchmark run. What its folder holds already is not measured again."""

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
        """ValueError where the folder holds what was measured on another machine or test set."""
        now = {text.name: text.sha256 for text in self.texts}
        for record in self.records.values():
            if record.machine != self.machine:
                raise ValueError(
                    f"{self.out / FILE} was measured on {record.machine}; this is {self.machine}: "
                    "give another --out"
                )
            if not isinstance(record, Measurement):
                continue
            if now.get(record.data, record.data_sha256) != record.data_sha256:
                raise ValueError(
                    f"{self.out / FILE}: {record.data!r} was measured with other sentences or "
                    "references: give the test set another name, or another --out"
                )

    def known(self, kind: type[R], **identity: object) -> R | None:
        """The record that says this of that, where there is one."""
        subject = (kind.kind, *(identity[name] for name in kind.identity))
        return cast(R | None, self.records.get(subject))

    def find_layouts(self, workers: Sequence[Worker], purpose: Purpose) -> None:
        """Tries out with which threads each system is fastest, where that is not known."""
        self.layouts.find(workers, self.texts[0], purpose)

    def layout(self, plan: SystemPlan, purpose: Purpose) -> Layout:
        """The threads with which a system is fastest."""
        return self.layouts.best(plan, purpose)

    def write(self, kind: type[R], worker: Worker, layout: Layout, **fields: Any) -> R:
        """Adds a record of what `worker` did."""
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
        """What a translation's record says of its test set, which lies in the folder too."""
        return {x: self.write_text(getattr(text, x), "texts", f"{text.name}.{x}") for x in SIDES}

    def write_text(self, lines: list[str], *name: str) -> str:
        """Writes lines for a record; the path in the run folder of the file, called so."""
        file = self.file(*name[:-1], f"{name[-1]}.txt")
        with replacing(file) as temporary:
            text = "".join(f"{line}\n" for line in lines)
            temporary.write_text(text, encoding="utf-8", newline="\n")
        return str(file.relative_to(self.out))

    def file(self, *name: str) -> Path:
        """A path in the run folder, whatever the names of its folders and itself hold."""
        file = self.out.joinpath(*(quote(part, safe=" ,=+()") for part in name))
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def start(self, plan: SystemPlan) -> Worker:
        """The process of a system."""
        model = self.plan.binarised
        if plan.engine == "ctranslate2":
            model = self._converted(plan.checkpoint)
        return Worker(plan, model, self.plan.subwords, self.device)

    @contextlib.contextmanager
    def workers(self) -> Iterator[list[Worker]]:
        """Processes of all systems, each with its record and its best layout of threads."""
        with contextlib.ExitStack() as stack, _ending_when_terminated():
            started = [
                stack.enter_context(self.start(plan))
                for plan in tqdm(self.runnable, desc="loading", unit="system")
            ]
            self.find_layouts(started, "latency")
            for worker in started:
                self._introduce(worker)
            yield started

    def _runnable(self) -> list[SystemPlan]:
        """All systems, without those that need what is not there; says so.

        ValueError where none is left.
        """
        systems = self.plan.systems
        unfit: list[tuple[str, list[SystemPlan]]] = []
        if not _ctranslate2.is_installed():
            why = f"CTranslate2 is not installed: {_ctranslate2.INSTALL}"
            unfit.append((why, [x for x in systems if x.engine == "ctranslate2"]))
        if self.device != "cpu":
            ours = [x for x in systems if (x.engine, x.precision) == ("fairseq", "int8")]
            unfit.append(("our integers are for a CPU", ours))
        for why, without in unfit:
            if without:
                print(f"{len(without)} systems are left out, because {why}")
            systems = [x for x in systems if x not in without]
        if not systems:
            raise ValueError("no system is left that could be measured")
        return systems

    def _converted(self, checkpoint: Path) -> Path:
        # Here, because torch is not needed where there is nothing to convert.
        from fairseq_nart.tools.distillation.teacher import Teacher

        folder = self.out / "ctranslate2" / sha256(checkpoint)[:12]
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.tmp")
            teacher = Teacher.load(checkpoint, self.plan.binarised)
            try:
                _ctranslate2.convert(teacher, unfinished)
            except Exception as error:
                raise ValueError(f"CTranslate2 cannot convert {checkpoint}: {error}") from error
            os.replace(unfinished, folder)
        return folder

    def _introduce(self, worker: Worker) -> None:
        """Has a system use its threads and writes its record."""
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
                    raise ValueError(
                        f"{self.out / FILE}: {plan.name!r} was measured with {name} "
                        f"{getattr(before, name)}, now it is {value}: give the system another "
                        "name, or another --out"
                    )
        else:
            self.write(System, worker, layout, checkpoint=str(plan.checkpoint), **about)


@contextlib.contextmanager
def _ending_when_terminated() -> Iterator[None]:
    """SIGTERM ends the program as Ctrl-C does: processes that stand still are not left behind."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Layouts:
    """The best layout of threads of each system, found once and kept in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tried: dict[str, Any] = read_json(file) or {}

    def find(self, workers: Sequence[Worker], text: Text, purpose: Purpose) -> None:
        """Looks at all systems in turns, again and again: a machine has slow moments, and those
        minutes would decide for a system that is looked at in one go."""
        trials = []
        for worker in workers:
            if worker.plan.threads is None and _key(worker.plan, purpose) not in self.tried:
                streams = purpose == "throughput" and worker.about["can_stream"]
                trials += [(worker, x) for x in layouts(circumstances.cores(), streams)]
        looks = [
            [_trial(worker, layout, text, purpose) for worker, layout in trials]
            for _ in tqdm(range(LOOKS if trials else 0), desc=f"threads for {purpose}", unit="look")
        ]
        for (worker, layout), *seconds in zip(trials, *looks):
            found = self.tried.setdefault(_key(worker.plan, purpose), [])
            found.append([layout.threads, layout.streams, statistics.median(seconds)])
        for key in dict.fromkeys(_key(worker.plan, purpose) for worker, _ in trials):
            found = ", ".join(f"{Layout(t, s)} {1e3 * x:.1f} ms" for t, s, x in self.tried[key])
            tqdm.write(f"{key}: {found}")
        write_json(self.file, self.tried)

    def best(self, plan: SystemPlan, purpose: Purpose) -> Layout:
        if plan.threads is not None:
            return Layout(plan.threads)
        threads, streams, _ = min(self.tried[_key(plan, purpose)], key=lambda row: row[2])
        return Layout(threads, streams)


def _key(plan: SystemPlan, purpose: Purpose) -> str:
    return f"{plan.name}: {purpose}"


LOOKS = 5
"""At each layout of threads; their median counts."""
TRIAL_SENTENCES, TRIAL_BATCH = 10, 16


def _trial(worker: Worker, layout: Layout, text: Text, purpose: Purpose) -> float:
    """Seconds per sentence."""
    worker.call("lay_out", layout)
    if purpose == "latency":
        timed = worker.call("time", text.spread(TRIAL_SENTENCES))
        return float(sum(one.tokens for one in timed) / len(timed))
    lines = text.spread(2 * TRIAL_BATCH * circumstances.cores())
    worker.call("throughput", lines[:TRIAL_BATCH], TRIAL_BATCH)
    seconds, _ = worker.call("throughput", lines, TRIAL_BATCH)
    return float(seconds / len(lines))


def _identified(option: str, value: Any) -> Any:
    """An option's value; of a teacher its name and what it holds, not where it lies."""
    if option != "rescore_with":
        return value
    return f"{Path(value).name} (SHA-256 {sha256(Path(value))[:12]})"


SIDES = ("sources", "references")


def _text(test: TestSet, sentences: int) -> Text:
    """Reads a test set and chooses what is timed of it."""
    files = (Path(test.source), Path(test.references))
    sides = {side: read_lines(file) for side, file in zip(SIDES, files, strict=True)}
    count = len(sides["sources"])
    if count != len(sides["references"]):
        raise ValueError(
            f"{test.source} has {count} lines, {test.references} {len(sides['references'])}"
        )
    timed = [index for index in range(count) if sides["sources"][index].strip()]
    if not timed:
        raise ValueError(f"{test.source} is empty")
    step = max(1, len(timed) / sentences)
    chosen = [timed[int(n * step)] for n in range(min(sentences, len(timed)))]
    return Text(test.name, sha256_of_test(**sides), **sides, chosen=chosen)

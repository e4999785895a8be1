"""What a benchmark does with its systems: latency, parts, memory, texts, throughput, sweeps."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fairseq_nart.tools.benchmark.measuring import Timed
from fairseq_nart.tools.benchmark.records import (
    Latency,
    Memory,
    Parts,
    Sweep,
    Throughput,
    Translation,
)
from fairseq_nart.tools.benchmark.session import Session
from fairseq_nart.tools.benchmark.worker import Worker

BLOCK = 10
"""Sentences a system translates before the next has its turn: long enough that its caches are
warm, short enough that a slow moment of the machine strikes all systems alike."""


def latency(session: Session, workers: Sequence[Worker], repeats: int) -> None:
    """Sentences one at a time, systems in turns; of each sentence the median of `repeats`."""
    for number, text in enumerate(session.texts):
        subjects = [("latency", w.plan.name, text.name, "tokens") for w in workers]
        if all(session.known(subject) for subject in subjects):
            continue
        used = [session.layouts.best(w, session.texts[0], "latency") for w in workers]
        header = {
            "systems": [worker.plan.name for worker in workers],
            "threads": [layout.total for layout in used],
            "sentences": text.chosen,
            "repeats": repeats,
        }
        rounds = _Rounds(session.out / f"latency{number}.jsonl", header)
        starts = range(0, len(text.timed), BLOCK)
        bar = tqdm(
            desc=f"latency, {text.name}", unit="round", total=repeats * len(starts), initial=0
        )
        for turn in range(repeats * len(starts)):
            bar.update()
            if turn < len(rounds.done):
                continue
            start = starts[turn % len(starts)]
            first = turn % len(workers)
            timed = {
                worker.plan.name: worker.call("time", text.timed[start : start + BLOCK])
                for worker in (*workers[first:], *workers[:first])
            }
            rounds.add({name: [asdict(one) for one in found] for name, found in timed.items()})
        bar.close()
        for worker, layout in zip(workers, used, strict=True):
            best = _medians(rounds.of(worker.plan.name), len(text.chosen))
            for scope in ("text", "tokens"):
                session.write(
                    Latency,
                    worker,
                    layout,
                    system=worker.plan.name,
                    data=text.name,
                    scope=scope,
                    seconds=[getattr(one, scope) for one in best],
                    target_tokens=[one.target_tokens for one in best],
                    sentences=text.chosen,
                )


def _medians(timed: list[Timed], sentences: int) -> list[Timed]:
    """Of each sentence over its repeats; `timed` holds all sentences, then all again."""
    found = []
    for index in range(sentences):
        repeats = timed[index::sentences]
        text, tokens = (
            statistics.median(getattr(one, scope) for one in repeats)
            for scope in ("text", "tokens")
        )
        found.append(Timed(text, tokens, repeats[0].target_tokens))
    return found


class _Rounds:
    """The rounds measured so far, in a file, so that a cut benchmark goes on."""

    def __init__(self, file: Path, header: dict[str, Any]) -> None:
        self.file = file
        lines = file.read_text("utf-8").splitlines(keepends=True) if file.exists() else []
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        self.done: list[dict[str, list[dict[str, Any]]]] = []
        if whole and whole[0] == header:
            self.done = whole[1:]
        text = "".join(f"{json.dumps(line)}\n" for line in (header, *self.done))
        file.write_text(text, "utf-8")

    def add(self, turn: dict[str, list[dict[str, Any]]]) -> None:
        self.done.append(turn)
        with open(self.file, "a", encoding="utf-8") as stream:
            stream.write(f"{json.dumps(turn)}\n")

    def of(self, system: str) -> list[Timed]:
        return [Timed(**one) for turn in self.done for one in turn[system]]


def parts_and_memory(session: Session, workers: Sequence[Worker]) -> None:
    """One sentence at a time: where the time goes, and the most memory."""
    for text, worker in _progress(session, workers, "parts and memory"):
        about = {"system": worker.plan.name, "data": text.name}
        layout = session.layouts.best(worker, session.texts[0], "latency")
        if not session.known(("memory", *about.values())):
            peak = worker.call("peak_bytes", text.timed)
            session.write(Memory, worker, layout, **about, peak_bytes=peak)
        if not session.known(("parts", *about.values())):
            seconds, total = worker.call("parts", text.timed)
            if seconds:
                session.write(Parts, worker, layout, **about, seconds=seconds, total=total)


def translations(session: Session, workers: Sequence[Worker], batch: int) -> None:
    """The whole test sets."""
    for text, worker in _progress(session, workers, "translating"):
        name = worker.plan.name
        if session.known(("translation", name, text.name)):
            continue
        found = worker.call("translate", text.sources, batch)
        lengths: dict[str, Any] = {}
        if found.predicted_lengths is not None:
            true = [len(session.subwords.encode(line)) + 1 for line in text.references]
            lengths = {"predicted_lengths": found.predicted_lengths, "reference_lengths": true}
        session.write(
            Translation,
            worker,
            session.layouts.best(worker, session.texts[0], "latency"),
            system=name,
            data=text.name,
            outputs=session.write_text(f"outputs/{text.name}", name, found.outputs),
            **text.files,
            **lengths,
        )


def throughput(session: Session, workers: Sequence[Worker], largest: int) -> None:
    """Batches of 1, 2, 4 and so on, systems in turns; each until its throughput fell twice."""
    sizes = [2**n for n in range(largest.bit_length())]
    best = [session.layouts.best(w, session.texts[0], "throughput") for w in workers]
    for worker, layout in zip(workers, best, strict=True):
        worker.call("lay_out", layout)
    for text in session.texts:
        rates: dict[str, list[float]] = {worker.plan.name: [] for worker in workers}
        turns = [(size, pair) for size in sizes for pair in zip(workers, best, strict=True)]
        for size, (worker, layout) in tqdm(turns, desc=f"throughput, {text.name}", unit="batch"):
            name = worker.plan.name
            if _fell_twice(rates[name]):
                continue
            record = session.known(("throughput", name, text.name, size))
            if record is None:
                lines = text.sources[: max(len(text.chosen), 2 * layout.streams * size)]
                seconds, tokens = worker.call("throughput", lines, size)
                record = session.write(
                    Throughput,
                    worker,
                    layout,
                    system=name,
                    data=text.name,
                    batch=size,
                    sentences_per_second=len(lines) / seconds,
                    tokens_per_second=tokens / seconds,
                )
            rates[name].append(record.sentences_per_second)


def _fell_twice(rates: list[float]) -> bool:
    return len(rates) > 2 and rates[-3] > rates[-2] > rates[-1]


def sweeps(session: Session, batch: int) -> None:
    """The test sets once more for each value of an option."""
    for sweep in session.plan.sweeps:
        for value, plan in tqdm(
            list(session.plan.swept(sweep)), desc=f"{sweep.parameter} of {sweep.system}"
        ):
            about = {"system": sweep.system, "parameter": sweep.parameter, "value": value}
            missing = [
                text
                for text in session.texts
                if not session.known(("sweep", sweep.system, text.name, sweep.parameter, value))
            ]
            if not missing:
                continue
            with session.start(plan) as worker:
                layout = session.layouts.best(worker, session.texts[0], "latency")
                worker.call("lay_out", layout)
                for text in missing:
                    found = worker.call("translate", text.sources, batch)
                    folder = f"outputs/{text.name}/{sweep.parameter}"
                    file = session.write_text(folder, f"{sweep.system}={value}", found.outputs)
                    session.write(Sweep, worker, layout, data=text.name, outputs=file, **about)


def _progress(session: Session, workers: Sequence[Worker], what: str) -> Any:
    pairs = [(text, worker) for text in session.texts for worker in workers]
    return tqdm(pairs, desc=what, unit="system")

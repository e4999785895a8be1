"""The stages of a benchmark: latency, parts and memory, translations, throughput, sweeps."""

import json
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fairseq_nart.files import replacing, sha256
from fairseq_nart.tools.benchmark import circumstances
from fairseq_nart.tools.benchmark.measuring import Timed
from fairseq_nart.tools.benchmark.records import (
    Latency,
    Memory,
    Operations,
    Parts,
    Sweep,
    Throughput,
    Translation,
)
from fairseq_nart.tools.benchmark.session import Session, Text
from fairseq_nart.tools.benchmark.worker import Worker

BLOCK = 50
"""Sentences per trial of a system: few enough that slow minutes of the machine affect all systems
equally."""


def latency(session: Session, workers: Sequence[Worker], repeats: int, upto: int) -> None:
    """Times single sentences in interleaved trials of all systems; the median of `repeats` counts.

    Measures the repeats up to number `upto`; the last one writes the records.
    """
    for text in session.texts:
        about = [_about(text, worker) for worker in workers]
        known = [session.known(Latency, **one, scope="tokens") for one in about]
        wanted = (text.chosen, repeats, known[0].begun if known[0] else None)
        if all(x and (x.sentences, x.repeats, x.begun) == wanted for x in known):
            continue
        layouts = [session.layout(worker.plan, "latency") for worker in workers]
        header = {
            "commit": session.commit,
            "data_sha256": text.sha256,
            "systems": [worker.plan.name for worker in workers],
            "threads": [layout.total for layout in layouts],
            "sentences": text.chosen,
            "repeats": repeats,
            "versions": [circumstances.versions(x.about["libraries"]) for x in workers],
        }
        rounds = _Rounds(session.file("latency", f"{text.name}.jsonl"), header)
        _run_trials(rounds, text, workers, upto)
        if upto < repeats:
            continue
        for worker, layout, one in zip(workers, layouts, about, strict=True):
            timed = _medians(rounds.of(worker.plan.name), len(text.chosen))
            for scope in ("text", "tokens"):
                session.write(
                    Latency,
                    worker,
                    layout,
                    **one,
                    scope=scope,
                    seconds=[getattr(sentence, scope) for sentence in timed],
                    target_tokens=[sentence.target_tokens for sentence in timed],
                    sentences=text.chosen,
                    repeats=repeats,
                    begun=rounds.begun,
                )


def _run_trials(rounds: "_Rounds", text: Text, workers: Sequence[Worker], repeats: int) -> None:
    """Times every block of sentences with every system, `repeats` times; saves each round.

    A round is one block with all systems. Every system first warms up on all sentences, and
    releases its memory at the end.
    """
    starts = list(range(0, len(text.timed), BLOCK)) * repeats
    done = len(rounds.done)
    for worker in tqdm(workers if done < len(starts) else (), desc="warming up", unit="system"):
        worker.call("warm_up", text.timed)
    with tqdm(desc=f"latency, {text.name}", unit="round", total=len(starts), initial=done) as bar:
        for number, start in enumerate(starts[done:], done):
            block = text.timed[start : start + BLOCK]
            # In random order, so that no system always follows the same other one.
            order = random.Random(number).sample(workers, len(workers))
            timed = {worker.plan.name: worker.call("time", block) for worker in order}
            rounds.add({name: [asdict(one) for one in times] for name, times in timed.items()})
            bar.update()
    for worker in workers:
        worker.call("rest")


def _medians(timed: list[Timed], sentences: int) -> list[Timed]:
    """The medians of each sentence; `timed` holds all sentences, then all of them again."""
    medians = []
    for index in range(sentences):
        repeats = timed[index::sentences]
        text, tokens = (
            statistics.median(getattr(one, scope) for one in repeats)
            for scope in ("text", "tokens")
        )
        medians.append(Timed(text, tokens, repeats[0].target_tokens))
    return medians


class _Rounds:
    """The rounds measured so far, in a file, so that an interrupted benchmark can resume."""

    def __init__(self, file: Path, header: dict[str, Any]) -> None:
        self.file = file
        lines = file.read_text("utf-8").splitlines(keepends=True) if file.exists() else []
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        self.begun = circumstances.now()
        self.done: list[dict[str, list[dict[str, Any]]]] = []
        if whole and whole[0] == {**header, "begun": whole[0].get("begun")}:
            self.begun, self.done = whole[0]["begun"], whole[1:]
        elif whole[1:]:
            print(f"{file}: begun under other circumstances, so measured again from the start")
        header = {**header, "begun": self.begun}
        text = "".join(f"{json.dumps(line)}\n" for line in (header, *self.done))
        with replacing(file) as temporary:
            temporary.write_text(text, "utf-8")

    def add(self, timed: dict[str, list[dict[str, Any]]]) -> None:
        self.done.append(timed)
        with open(self.file, "a", encoding="utf-8") as stream:
            stream.write(f"{json.dumps(timed)}\n")

    def of(self, system: str) -> list[Timed]:
        return [Timed(**one) for timed in self.done for one in timed[system]]


def parts_and_memory(session: Session, workers: Sequence[Worker]) -> None:
    """Measures, one sentence at a time, the parts of the time, peak memory and operations."""
    for text, worker, about in _each(session, workers, "parts and memory"):
        layout = session.layout(worker.plan, "latency")
        every, some = text.chosen, text.chosen[::COUNTED]
        new = _missing(session, Memory, about, every)
        if new and (peak := worker.call("peak_bytes", text.timed)):
            session.write(Memory, worker, layout, **about, sentences=every, peak_bytes=peak)
        if _missing(session, Parts, about, every):
            seconds, total = worker.call("parts", text.timed)
            if seconds:
                fields = {"sentences": every, "seconds": seconds, "total": total}
                session.write(Parts, worker, layout, **about, **fields)
        new = _missing(session, Operations, about, some)
        if new and (flop := worker.call("operations", [text.sources[n] for n in some])):
            fields = {"sentences": some, "flop": flop, "rate": worker.call("rate")}
            session.write(Operations, worker, layout, **about, **fields)


def _missing(
    session: Session,
    kind: type[Memory | Parts | Operations],
    about: dict[str, str],
    sentences: list[int],
) -> bool:
    """Whether no record covers exactly these sentences."""
    known = session.known(kind, **about)
    return known is None or known.sentences != sentences


COUNTED = 5
"""Operations are counted in one of this many timed sentences, because counting is slow."""


def translations(session: Session, workers: Sequence[Worker], batch: int) -> None:
    """Translates the whole test sets."""
    for text, worker, about in _each(session, workers, "translating"):
        if session.known(Translation, **about):
            continue
        translated = worker.call("translate", text.sources, batch)
        lengths: dict[str, Any] = {}
        # References are plain text, which `encode` must be able to segment.
        if translated.predicted_lengths is not None and session.subwords.takes_text:
            true = [len(session.subwords.encode(line)) + 1 for line in text.references]
            lengths = {"predicted_lengths": translated.predicted_lengths, "reference_lengths": true}
        session.write(
            Translation,
            worker,
            session.layout(worker.plan, "latency"),
            **about,
            outputs=session.write_text(translated.outputs, "outputs", text.name, worker.plan.name),
            iterations=translated.iterations if any(translated.iterations) else None,
            **session.files(text),
            **lengths,
        )


def _each(
    session: Session, workers: Sequence[Worker], what: str
) -> Iterator[tuple[Text, Worker, dict[str, str]]]:
    """Each test set with each system, and the fields of a record that identify them."""
    pairs = [(text, worker) for text in session.texts for worker in workers]
    for text, worker in tqdm(pairs, desc=what, unit="system"):
        yield text, worker, _about(text, worker)


def _about(text: Text, worker: Worker) -> dict[str, str]:
    return {"system": worker.plan.name, "data": text.name, "data_sha256": text.sha256}


def throughput(session: Session, workers: Sequence[Worker], largest: int) -> None:
    """Measures batches of 1, 2, 4, ... for each system, until its throughput has fallen twice."""
    session.find_layouts(workers, "throughput")
    layouts = {worker.plan.name: session.layout(worker.plan, "throughput") for worker in workers}
    for worker in workers:
        worker.call("lay_out", layouts[worker.plan.name])
    sizes = [2**n for n in range(largest.bit_length())]
    for text in session.texts:
        rates: dict[str, list[float]] = {name: [] for name in layouts}
        for size in tqdm(sizes, desc=f"throughput, {text.name}", unit="batch size"):
            # The same for all systems, also for those added later: two batches per possible stream.
            lines = text.spread(max(LEAST, 2 * circumstances.cores() * size))
            active = [worker for worker in workers if not _fell_twice(rates[worker.plan.name])]
            about = {x.plan.name: {**_about(text, x), "batch": size} for x in active}
            new = [x for x in active if not session.known(Throughput, **about[x.plan.name])]
            # Twice, because one trial may fall into a slow moment of the machine.
            trials = [[worker.call("throughput", lines, size) for worker in new] for _ in range(2)]
            for worker, *timings in zip(new, *trials, strict=True):
                seconds, tokens = min(timings)
                session.write(
                    Throughput,
                    worker,
                    layouts[worker.plan.name],
                    **about[worker.plan.name],
                    sentences_per_second=len(lines) / seconds,
                    tokens_per_second=tokens / seconds,
                )
            for name, one in about.items():
                if record := session.known(Throughput, **one):
                    rates[name].append(record.sentences_per_second)
    for worker in workers:  # the other stages measure single sentences
        worker.call("lay_out", session.layout(worker.plan, "latency"))


LEAST = 64
"""Smallest number of sentences for a throughput."""


def _fell_twice(rates: list[float]) -> bool:
    return len(rates) > 2 and rates[-3] > rates[-2] > rates[-1]


def sweeps(session: Session, batch: int) -> None:
    """Translates the test sets with each value of a swept parameter."""
    names = [system.name for system in session.runnable]
    for sweep in (x for x in session.plan.sweeps if x.system in names):
        swept = list(session.plan.swept(sweep))
        for value, plan in tqdm(swept, desc=f"{sweep.parameter} of {sweep.system}", unit="value"):
            about = {"system": sweep.system, "parameter": sweep.parameter, "value": value}
            about["checkpoint_sha256"] = sha256(plan.checkpoint)
            missing = [x for x in session.texts if not session.known(Sweep, **about, data=x.name)]
            if not missing:
                continue
            with session.start(plan) as worker:
                layout = session.layout(plan, "latency")
                worker.call("lay_out", layout)
                for text in missing:
                    translated = worker.call("translate", text.sources, batch)
                    name = ("outputs", text.name, sweep.parameter, f"{sweep.system}={value}")
                    file = session.write_text(translated.outputs, *name)
                    session.write(
                        Sweep,
                        worker,
                        layout,
                        **about,
                        data=text.name,
                        data_sha256=text.sha256,
                        outputs=file,
                    )

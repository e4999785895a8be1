"""Joins requests that wait at the same time and decodes them together, in one thread.

A free worker starts at once; what arrives meanwhile is its next batch. So a lone request never
waits for company, and a busy server has full batches.
"""

import contextlib
import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Self

from fairseq_nart.runtime import Lattice, Translation, Translator
from fairseq_nart.server.metrics import Histogram

BATCH = 64
"""A call of the model takes no further request once it has this many lines."""

MOST = 5
"""Translations in the answer for each line: the best and its alternatives."""

SHOWN = 6
"""Candidates per position in a lattice."""

Candidates = Sequence[Translation]
"""The translations of a line, best first."""


class BusyError(Exception):
    """Too many requests wait, or the server is stopping."""


@dataclass(frozen=True)
class _Translate:
    lines: list[str]
    answer: Future[list[Candidates]] = field(default_factory=Future)


@dataclass(frozen=True)
class _Look:
    line: str
    answer: Future[Lattice] = field(default_factory=Future)


class Batcher:
    """The only user of `model`, for the length of a `with` block. Any thread may ask it.

    Raises BusyError if `most_waiting` requests wait already. `sizes` counts the lines of batches.
    """

    def __init__(self, model: Translator, most_waiting: int, sizes: Histogram) -> None:
        self._model, self._most, self._sizes = model, most_waiting, sizes
        self._jobs: SimpleQueue[_Translate | _Look | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._open = True
        self.waiting = 0
        # A second signal to stop ends the process without waiting for the thread.
        self._worker = threading.Thread(target=self._work, name="batcher", daemon=True)

    def __enter__(self) -> Self:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Refuses new jobs, answers those that wait, and ends the thread."""
        with self._lock:
            self._open = False
            self._jobs.put(None)
        self._worker.join()

    def translate(self, lines: list[str]) -> Future[list[Candidates]]:
        """The translations of each line. A UserError concerns one of these lines."""
        self._add(job := _Translate(lines))
        return job.answer

    def lattice(self, line: str) -> Future[Lattice]:
        """The lattice of one line."""
        self._add(job := _Look(line))
        return job.answer

    def _add(self, job: _Translate | _Look) -> None:
        with self._lock:
            if not self._open:
                raise BusyError("the server is stopping: try again later")
            if self.waiting >= self._most:
                raise BusyError(f"too many requests wait (at most {self._most}): try again later")
            self.waiting += 1
            job.answer.add_done_callback(self._done)
            self._jobs.put(job)

    def _done(self, _: object) -> None:
        with self._lock:
            self.waiting -= 1

    def _work(self) -> None:
        stopping = False
        while not stopping:
            jobs, stopping = self._next()
            running = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            for job in running:
                if isinstance(job, _Look):
                    self._look(job)
            if together := [job for job in running if isinstance(job, _Translate)]:
                self._translate(together)

    def _next(self) -> tuple[list[_Translate | _Look], bool]:
        """Waits for a job. Returns it with others that wait, up to about BATCH lines, and whether
        they are the last."""
        jobs: list[_Translate | _Look] = []
        lines = 0
        with contextlib.suppress(Empty):
            while lines < BATCH:
                job = self._jobs.get(block=not jobs)
                if job is None:
                    return jobs, True
                jobs.append(job)
                lines += len(job.lines) if isinstance(job, _Translate) else 1
        return jobs, False

    def _look(self, job: _Look) -> None:
        try:
            lattice = self._model.lattice(job.line, SHOWN)
        except Exception as error:
            job.answer.set_exception(error)
        else:
            job.answer.set_result(lattice)

    def _translate(self, jobs: list[_Translate]) -> None:
        lines = [line for job in jobs for line in job.lines]
        self._sizes.observe(len(lines))
        try:
            # The model sorts lines by length itself.
            answers = iter(self._model.translate_n_best(lines, MOST))
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            # One bad line must not spoil the requests that happened to arrive with it.
            for job in jobs:
                self._translate([job])
        else:
            for job in jobs:
                job.answer.set_result(list(itertools.islice(answers, len(job.lines))))

"""Measures one system in its own process: times, parts, memory, translations."""

import re
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from fairseq_nart.compat import allocator
from fairseq_nart.subwords import Subwords
from fairseq_nart.tools.benchmark.clock import PartsClock
from fairseq_nart.tools.benchmark.engines import Engine, Layout

T = TypeVar("T")

UNTIMED = 5
"""Lines translated before a timed block. Right after the other systems' blocks, systems of 1 ms
take 1.2 to 1.6 times as long for the first lines as for later ones."""


@dataclass(frozen=True)
class Timed:
    """One sentence, translated alone."""

    text: float
    """Seconds from raw text to raw text."""
    tokens: float
    """The part of them from token ids to token ids."""
    target_tokens: int
    """End of sentence included."""


@dataclass(frozen=True)
class Translated:
    """A translated test set."""

    outputs: list[str]
    predicted_lengths: list[int] | None
    iterations: list[int]
    """The number of decoder passes that refined each sentence."""


class Measuring:
    """Measures an engine. All lines are raw text."""

    def __init__(self, engine: Engine, subwords: Subwords) -> None:
        self.engine = engine
        self.subwords = subwords
        self._warm: set[str] = set()

    def about(self) -> dict[str, Any]:
        """The engine's attributes for records."""
        names = ("name", "libraries", "lengths", "can_stream")
        return {name: getattr(self.engine, name) for name in names}

    def lay_out(self, layout: Layout) -> None:
        """Sets the number of threads and streams."""
        self.engine.lay_out(layout)

    def warm_up(self, lines: Sequence[str]) -> None:
        """Translates the lines not yet translated here, because caches are keyed by shape.

        After 20 sentences of all lengths, NART took 11.5 ms for each new one, and 5 ms once warm.
        """
        for line in lines:
            if line not in self._warm:
                self._time(line)
                self._warm.add(line)

    def time(self, lines: Sequence[str]) -> list[Timed]:
        """Times each line alone, after translating the first ones without timing."""
        for line in lines[:UNTIMED]:
            self._time(line)
        return [self._time(line) for line in lines]

    def rest(self) -> None:
        """Ends the interleaved trials; the worker then returns their memory to the system."""

    def _time(self, line: str) -> Timed:
        engine, clock = self.engine, time.perf_counter
        engine.wait()
        start = clock()
        source = engine.encode(self.subwords.encode(line))
        begin = clock()
        ((target,),) = engine.translate([[source]])
        engine.wait()
        end = clock()
        pieces = engine.decode(target)
        self.subwords.decode(pieces)
        return Timed(clock() - start, end - begin, len(pieces) + 1)

    def throughput(self, lines: Sequence[str], batch: int) -> tuple[float, int]:
        """Seconds from token ids to token ids, and target tokens, in batches of similar length.

        The longest batch is first translated once, untimed.
        """
        batches = list(batches_by_size(self._sources(lines), batch, len))
        self.engine.translate(batches[-1:])
        self.engine.wait()
        start = time.perf_counter()
        translated = self.engine.translate(batches)
        self.engine.wait()
        seconds = time.perf_counter() - start
        targets = chain.from_iterable(translated)
        return seconds, sum(len(self.engine.decode(target)) + 1 for target in targets)

    def parts(self, lines: Sequence[str]) -> tuple[dict[str, float], float]:
        """Mean seconds per line by part and in total, token ids to token ids."""
        clock, total = PartsClock(self.engine.wait), 0.0
        sources = self._sources(lines)
        with clock.around(self.engine.parts()):
            self.engine.translate([[sources[0]]])
            clock.seconds.clear()
            for source in sources:
                self.engine.wait()
                start = time.perf_counter()
                self.engine.translate([[source]])
                self.engine.wait()
                total += time.perf_counter() - start
        return {part: x / len(lines) for part, x in clock.seconds.items()}, total / len(lines)

    def operations(self, lines: Sequence[str]) -> float | None:
        """Mean floating-point operations per line translated alone; None for a closed engine."""
        sources = self._sources(lines)
        total = self.engine.operations(lambda: self.engine.translate([[x] for x in sources]))
        return None if total is None else total / len(lines)

    def rate(self) -> float | None:
        """Operations per second that the machine can do; None for engines without a measure."""
        return self.engine.rate()

    def peak_bytes(self, lines: Sequence[str]) -> int | None:
        """Peak memory while translating each line alone: of the GPU, or resident on a CPU.

        None if the engine does not report GPU memory.
        """
        own = Path("/proc/self/clear_refs")
        if own.exists():
            allocator.return_free_memory()
            own.write_text("5")  # resets the peak, which loading may have set
        on_device = self.engine.peak_bytes(lambda: self.time(lines))
        return _peak_resident() if self.engine.device == "cpu" else on_device

    def translate(self, lines: Sequence[str], batch: int) -> Translated:
        """Translates all lines in batches of similar length; returns them in the given order."""
        sources = self._sources(lines)
        batches = list(batches_by_size(range(len(lines)), batch, lambda index: len(sources[index])))
        translated = self.engine.translate([[sources[i] for i in batch] for batch in batches])
        outputs = _in_order(batches, translated)
        lengths = None
        if self.engine.lengths is not None:
            predicted = (self.engine.predicted_lengths([sources[i] for i in b]) for b in batches)
            lengths = _in_order(batches, predicted)
        decode = self.engine.decode
        return Translated(
            [self.subwords.decode(decode(one)) for one in outputs],
            lengths,
            [self.engine.iterations(one) for one in outputs],
        )

    def _sources(self, lines: Sequence[str]) -> list[Any]:
        return [self.engine.encode(self.subwords.encode(line)) for line in lines]


def batches_by_size(items: Iterable[T], batch: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    """Batches of items of similar size, smallest first."""
    ordered = sorted(items, key=size)
    for start in range(0, len(ordered), batch):
        yield ordered[start : start + batch]


def _in_order(batches: list[list[int]], results: Iterable[list[T]]) -> list[T]:
    """The results for batches of indices, in the order of the indices."""
    pairs = zip(chain.from_iterable(batches), chain.from_iterable(results), strict=True)
    return [one for _, one in sorted(pairs, key=lambda pair: pair[0])]


def _peak_resident() -> int:
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(peak[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

"""What is measured of one system, in its own process: times, parts, memory, translations."""

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


@dataclass(frozen=True)
class Timed:
    """One sentence, translated alone."""

    text: float
    """Seconds from raw text to raw text."""
    tokens: float
    """Seconds of them from token ids to token ids."""
    target_tokens: int
    """The end of sentence counted."""


@dataclass(frozen=True)
class Translated:
    """A translated test set."""

    outputs: list[str]
    predicted_lengths: list[int] | None
    iterations: list[int]
    """Passes of the decoder that refined each sentence."""


class Measuring:
    """Measures an engine. Lines are raw text."""

    def __init__(self, engine: Engine, subwords: Subwords) -> None:
        self.engine = engine
        self.subwords = subwords
        self._met: set[str] = set()

    def about(self) -> dict[str, Any]:
        """What a record says of the engine."""
        names = ("name", "libraries", "lengths", "can_stream")
        return {name: getattr(self.engine, name) for name in names}

    def lay_out(self, layout: Layout) -> None:
        """Uses so many threads from now on."""
        self.engine.lay_out(layout)

    def warm_up(self, lines: Sequence[str]) -> None:
        """Translates those that are new here, for what is kept from a first time is kept by shape.

        After 20 sentences of all lengths NART took 11.5 ms for each of the next, and later 5.
        """
        for line in lines:
            if line not in self._met:
                self._time(line)
                self._met.add(line)

    def time(self, lines: Sequence[str]) -> list[Timed]:
        """Each line on its own, the first once more before, unmeasured: caches are then warm."""
        return [self._time(line) for line in (lines[0], *lines)][1:]

    def rest(self) -> None:
        """Turns have ended, and what they took is given back, as after all other work."""

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
        """Seconds from token ids to token ids, and target tokens, in batches of like length.

        The longest batch was translated before, unmeasured.
        """
        batches = list(batches_by_size(self._sources(lines), batch, len))
        self.engine.translate(batches[-1:])
        self.engine.wait()
        start = time.perf_counter()
        translated = self.engine.translate(batches)
        self.engine.wait()
        seconds = time.perf_counter() - start
        targets = (target for found in translated for target in found)
        return seconds, sum(len(self.engine.decode(target)) + 1 for target in targets)

    def parts(self, lines: Sequence[str]) -> tuple[dict[str, float], float]:
        """Mean seconds per line by part, and of everything, token ids to token ids."""
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
        """Mean floating-point operations per line translated alone; None of a closed engine."""
        sources = self._sources(lines)
        total = self.engine.operations(lambda: self.engine.translate([[x] for x in sources]))
        return None if total is None else total / len(lines)

    def peak_bytes(self, lines: Sequence[str]) -> int | None:
        """The most memory that translating each line on its own took: of a GPU, or resident.

        None where the engine does not say what it took of a GPU.
        """
        own = Path("/proc/self/clear_refs")
        if own.exists():
            allocator.return_free_memory()
            own.write_text("5")  # the peak so far, such as loading's, is forgotten
        on_device = self.engine.peak_bytes(lambda: self.time(lines))
        return _peak_resident() if self.engine.device == "cpu" else on_device

    def translate(self, lines: Sequence[str], batch: int) -> Translated:
        """All lines, in batches of like length; their order is kept."""
        sources = self._sources(lines)
        batches = list(batches_by_size(range(len(lines)), batch, lambda index: len(sources[index])))
        found = self.engine.translate([[sources[i] for i in some] for some in batches])
        outputs = _restored(batches, found)
        lengths = None
        if self.engine.lengths is not None:
            of_batches = (self.engine.predicted_lengths([sources[i] for i in b]) for b in batches)
            lengths = _restored(batches, of_batches)
        decode = self.engine.decode
        return Translated(
            [self.subwords.decode(decode(one)) for one in outputs],
            lengths,
            [self.engine.iterations(one) for one in outputs],
        )

    def _sources(self, lines: Sequence[str]) -> list[Any]:
        return [self.engine.encode(self.subwords.encode(line)) for line in lines]


def batches_by_size(items: Iterable[T], batch: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    """Neighbours in size share a batch."""
    ordered = sorted(items, key=size)
    for start in range(0, len(ordered), batch):
        yield ordered[start : start + batch]


def _restored(batches: list[list[int]], found: Iterable[list[T]]) -> list[T]:
    """What was found for batches of indices, in the order of the indices."""
    pairs = zip(chain.from_iterable(batches), chain.from_iterable(found), strict=True)
    return [one for _, one in sorted(pairs, key=lambda pair: pair[0])]


def _peak_resident() -> int:
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

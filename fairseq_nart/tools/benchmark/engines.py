"""The interface of engines, which run a system from token ids to token ids as users would."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fairseq_nart.tools.benchmark.clock import Part


@dataclass(frozen=True)
class Layout:
    """Threads per translation, and how many batches (streams) are translated at the same time."""

    threads: int
    streams: int = 1

    @property
    def total(self) -> int:
        """Threads in all."""
        return self.threads * self.streams

    def __str__(self) -> str:
        streams = f"{self.streams} streams of " if self.streams > 1 else ""
        return f"{streams}{self.threads} thread{'s' if self.threads > 1 else ''}"


def layouts(cores: int, streams: bool) -> list[Layout]:
    """The layouts to try on this many cores: powers of two, and all cores."""
    counts = sorted({2**n for n in range(cores.bit_length()) if 2**n <= cores} | {cores})
    return [
        Layout(threads, number)
        for number in (counts if streams else [1])
        for threads in counts
        if threads * number <= cores
    ]


class Engine(Protocol):
    """An engine. Sources and targets are tokens in its own form, with one EOS and no padding."""

    name: str
    device: str
    """cpu or cuda."""
    libraries: tuple[str, ...]
    """Packages whose versions are recorded."""
    lengths: int | None
    """Number of length candidates; None for a system without them."""
    can_stream: bool
    """Whether several batches can be translated at the same time."""

    def lay_out(self, layout: Layout) -> None:
        """Sets the number of threads and streams."""

    def encode(self, pieces: list[str]) -> Any:
        """Converts the subwords of a source to the engine's form."""

    def decode(self, target: Any) -> list[str]:
        """The subwords of a target."""

    def iterations(self, target: Any) -> int:
        """The number of decoder passes that refined a target; 0 without refinement."""

    def translate(self, batches: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """The targets of each batch of sources, in order."""

    def predicted_lengths(self, batch: Sequence[Any]) -> list[int]:
        """The target length predicted for each source, end of sentence included."""

    def parts(self) -> list[Part]:
        """The functions that can be timed; empty if the engine is closed."""

    def wait(self) -> None:
        """Returns when the device is idle."""

    def operations(self, work: Callable[[], object]) -> int | None:
        """Floating-point operations of matrix products in `work`; None if the engine is closed."""

    def rate(self) -> float | None:
        """Operations per second of matrix products on this machine, at best, with the engine's
        kernels and threads; None if it is not measured."""

    def peak_bytes(self, work: Callable[[], object]) -> int | None:
        """Runs `work`; returns the peak GPU memory, None without a GPU or if it is unknown."""

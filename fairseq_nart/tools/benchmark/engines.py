"""What runs a system: token ids in, token ids out, as its users would call it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fairseq_nart.tools.benchmark.clock import Part


@dataclass(frozen=True)
class Layout:
    """Threads of one translation, and how many batches are translated at a time."""

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
    """What is tried on so many cores: powers of two, and all cores."""
    counts = sorted({2**n for n in range(cores.bit_length()) if 2**n <= cores} | {cores})
    return [
        Layout(threads, number)
        for number in (counts if streams else [1])
        for threads in counts
        if threads * number <= cores
    ]


class Engine(Protocol):
    """Source and target are tokens in the engine's own form: one end of sentence, no padding."""

    name: str
    device: str
    """cpu or cuda."""
    libraries: tuple[str, ...]
    """Packages whose version matters."""
    lengths: int | None
    """Length candidates; None for a system that has none."""
    can_stream: bool
    """Whether several batches can be translated at a time."""

    def lay_out(self, layout: Layout) -> None:
        """Uses so many threads from now on."""

    def encode(self, pieces: list[str]) -> Any:
        """A source out of its pieces."""

    def decode(self, target: Any) -> list[str]:
        """The pieces of a target."""

    def iterations(self, target: Any) -> int:
        """Passes of the decoder that refined it; 0 where nothing is refined."""

    def translate(self, batches: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """The targets of each batch of sources, in their order."""

    def predicted_lengths(self, batch: Sequence[Any]) -> list[int]:
        """The target length predicted for each source, the end of sentence counted."""

    def parts(self) -> list[Part]:
        """Where clocks can be set; empty where the engine is closed."""

    def wait(self) -> None:
        """Returns when the device has nothing left to do."""

    def operations(self, work: Callable[[], object]) -> int | None:
        """Floating-point operations of the products of matrices in `work`; None where the engine
        is closed."""

    def peak_bytes(self, work: Callable[[], object]) -> int | None:
        """The most memory of a GPU that `work` took; None without one, or where it is not known."""

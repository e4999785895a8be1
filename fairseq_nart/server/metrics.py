"""Counters and histograms in Prometheus' text format."""

import threading
from collections import Counter
from collections.abc import Sequence

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Counts of values up to each bound. Threads may share it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        place = sum(bound < value for bound in self.bounds)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def lines(self, name: str) -> list[str]:
        with self._lock:
            counts, total = list(self._counts), self._sum
        below = [sum(counts[: n + 1]) for n in range(len(counts))]
        bounds = [*map(str, self.bounds), "+Inf"]
        return [
            *(f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in zip(bounds, below)),
            f"{name}_sum {total}",
            f"{name}_count {below[-1]}",
        ]


class Metrics:
    """What the server has done so far."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """By path and status."""
        self.translated = 0
        self.seconds = Histogram(SECONDS)
        self.batches = Histogram(LINES)

    def text(self, waiting: int) -> str:
        """All metrics, while `waiting` requests wait."""
        requests = [
            f'fairseq_nart_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(self.requests.items())
        ]
        lines = [
            *_head("requests_total", "counter", "Requests by path and status."),
            *requests,
            *_head("lines_total", "counter", "Translated lines."),
            f"fairseq_nart_lines_total {self.translated}",
            *_head("translate_seconds", "histogram", "Seconds until a translation was ready."),
            *self.seconds.lines("fairseq_nart_translate_seconds"),
            *_head("batch_lines", "histogram", "Lines decoded together."),
            *self.batches.lines("fairseq_nart_batch_lines"),
            *_head("waiting", "gauge", "Requests that wait for the model or are being decoded."),
            f"fairseq_nart_waiting {waiting}",
        ]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP fairseq_nart_{name} {meaning}", f"# TYPE fairseq_nart_{name} {kind}"]

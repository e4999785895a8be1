"""Measures the time spent in given functions, by patching them for the time of measurement."""

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

Part = tuple[Any, str, str]
"""An object, module or class; the name of a function in it; the part its time is counted under."""


class PartsClock:
    """Seconds by part. The time of a part inside another counts for the inner one only.

    `wait` is called before each reading of the clock and lets the device finish its work.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._wait = wait
        self._inner = [0.0]
        """Seconds spent in parts inside the current part, one entry per nesting level."""

    @contextlib.contextmanager
    def around(self, parts: Sequence[Part]) -> Iterator[None]:
        """Times `parts` until the block ends."""
        with contextlib.ExitStack() as stack:
            for owner, name, part in parts:
                timed = self._timed(getattr(owner, name), part)
                stack.enter_context(mock.patch.object(owner, name, timed))
            yield

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._wait()
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._wait()
                whole = time.perf_counter() - start
                self.seconds[part] += whole - self._inner.pop()
                self._inner[-1] += whole

        return timed

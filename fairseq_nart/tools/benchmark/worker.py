"""A process for each system: its own threads and memory, at rest while others are timed."""

import contextlib
import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from fairseq_nart.compat import allocator
from fairseq_nart.subwords import Subwords
from fairseq_nart.tools.benchmark.measuring import Measuring
from fairseq_nart.tools.benchmark.plan import SystemPlan

LoadSubwords = Callable[[], Subwords]
"""Called in the process of a worker."""


class Worker:
    """Runs `Measuring` of one system in a process of its own, which stands still between calls.

    Stopped, because idle threads of some libraries go on spinning for a while and would slow the
    next system down.
    """

    def __init__(self, plan: SystemPlan, model: Path, subwords: LoadSubwords, device: str):
        """`model` is what the engine reads beside the checkpoint: see `_engine`."""
        self.plan = plan
        ours, theirs = multiprocessing.Pipe()
        # A CTranslate2 user's process holds no torch; the others share what they import.
        shared = plan.engine == "fairseq"
        context: Any = multiprocessing.get_context("forkserver" if shared else "spawn")
        if shared:
            context.set_forkserver_preload(["fairseq_nart.tools.benchmark.fairseq_engine"])
        self._connection = ours
        self._process = context.Process(
            target=_serve, args=(theirs, plan, model, subwords, device), daemon=True
        )
        self._process.start()
        theirs.close()
        self.about: dict[str, Any] = self._receive()
        self._signal(signal.SIGSTOP)

    def call(self, name: str, *args: Any) -> Any:
        """A method of `Measuring`. ValueError where it fails, or the process ends."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # its end is told of where it would answer
            self._connection.send((name, args))
        answer = self._receive()
        self._signal(signal.SIGSTOP)
        return answer

    def _receive(self) -> Any:
        try:
            failed, answer = self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            code = self._process.exitcode
            why = "killed, perhaps for memory" if code == -signal.SIGKILL else f"status {code}"
            raise ValueError(f"{self.plan.name}: its process ended ({why})") from error
        if failed:
            raise ValueError(f"{self.plan.name}: {answer}")
        return answer

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()


def _serve(
    connection: Connection,
    plan: SystemPlan,
    model: Path,
    subwords: LoadSubwords,
    device: str,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ends with the process that started it
    logging.disable(logging.INFO)
    measuring: Any = None
    request: tuple[str, tuple[Any, ...]] | None = None
    while True:
        try:
            if measuring is None:
                measuring = Measuring(_engine(plan, model, device), subwords())
                request = ("about", ())
            else:
                request = connection.recv()
            name, args = request
            answer = getattr(measuring, name)(*args)
            if name not in ("warm_up", "time"):  # the next turn would have to fetch it again
                allocator.return_free_memory()  # else all processes together keep too much
            connection.send((False, answer))
        except EOFError:
            return
        except Exception as error:
            plain = isinstance(error, (OSError, ValueError))
            connection.send((True, str(error) if plain else traceback.format_exc()))
            if measuring is None:
                return


def _engine(plan: SystemPlan, model: Path, device: str) -> Any:
    """`model` is the folder with the dictionaries or, for CTranslate2, the converted model."""
    allocator.keep_freed_memory()  # the same for all engines
    # Each process imports what it runs, no more.
    if plan.engine == "ctranslate2":
        from fairseq_nart.tools.benchmark.ctranslate2_engine import CTranslate2Engine

        return CTranslate2Engine(plan, model, device)
    from fairseq_nart.tools.benchmark.fairseq_engine import FairseqEngine

    return FairseqEngine(plan, model, device)

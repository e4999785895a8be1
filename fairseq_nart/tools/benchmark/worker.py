"""One process per system, with its own threads and memory, stopped while others are timed."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from fairseq_nart import extensions
from fairseq_nart.compat import allocator
from fairseq_nart.errors import UserError
from fairseq_nart.subwords import Subwords
from fairseq_nart.tools.benchmark.measuring import Measuring
from fairseq_nart.tools.benchmark.plan import SystemPlan

_PR_SET_PDEATHSIG = 1  # from Linux' prctl.h

LoadSubwords = Callable[[], Subwords]
"""Called in the worker's process."""


class Worker:
    """Runs `Measuring` of one system in its own process, which is stopped between calls.

    Otherwise idle threads of some libraries would spin for a while and slow down the next system.
    """

    def __init__(self, plan: SystemPlan, model: Path, subwords: LoadSubwords, device: str):
        """`model` is what the engine reads besides the checkpoint: see `prepared`."""
        self.plan = plan
        ours, theirs = multiprocessing.Pipe()
        # Users of the other engines do not import torch; fairseq's processes share their imports.
        shared = plan.engine == "fairseq"
        context: Any = multiprocessing.get_context("forkserver" if shared else "spawn")
        if shared:
            context.set_forkserver_preload(["fairseq_nart.tools.benchmark.fairseq_engine"])
        self._connection = ours
        self._process = context.Process(
            target=_child, args=(theirs, plan, model, subwords, device), daemon=True
        )
        self._process.start()
        theirs.close()
        self.about: dict[str, Any] = self._receive()
        self._signal(signal.SIGSTOP)

    def call(self, name: str, *args: Any) -> Any:
        """Calls a method of `Measuring`. UserError if it fails or the process ends."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # `_receive` reports that the process has ended
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
            out_of_memory = "killed, perhaps because memory ran out"
            why = out_of_memory if code == -signal.SIGKILL else f"status {code}"
            raise UserError(f"{self.plan.name}: its process ended ({why})") from error
        if failed:
            raise UserError(f"{self.plan.name}: {answer}")
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


def _end_with_parent() -> None:
    """Has the system kill this process when its parent has ended.

    While it is stopped, it would not notice that a killed benchmark has closed the connection, and
    would keep its memory. The parent may be the fork server, which ends once no process holds a
    certain descriptor. Each process that it starts inherits a copy, which is closed here.
    """
    server: Any = forkserver
    if (alive := getattr(server._forkserver, "_forkserver_alive_fd", None)) is not None:
        os.close(alive)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _child(*args: Any) -> None:
    """The process of a worker."""
    _end_with_parent()
    _serve(*args)


def _serve(
    connection: Connection,
    plan: SystemPlan,
    model: Path,
    subwords: LoadSubwords,
    device: str,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
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
            # All processes together would hold too much memory. Between interleaved trials it is
            # kept, because fetching it again would slow down the next one.
            if name not in ("warm_up", "time"):
                allocator.return_free_memory()
            connection.send((False, answer))
        except EOFError:
            return
        except Exception as error:
            plain = isinstance(error, (OSError, UserError))
            connection.send((True, str(error) if plain else traceback.format_exc()))
            if measuring is None:
                return


def _engine(plan: SystemPlan, model: Path, device: str) -> Any:
    """Loads the engine; see `prepared.model` for `model`."""
    allocator.keep_freed_memory()  # the same for all engines
    # Each process imports only the engine that it runs.
    if plan.engine == "ctranslate2":
        from fairseq_nart.tools.benchmark.ctranslate2_engine import CTranslate2Engine

        return CTranslate2Engine(plan, model, device)
    if plan.engine == "onnx":
        from fairseq_nart.tools.benchmark.onnx_engine import OnnxEngine

        return OnnxEngine(plan, model)
    from fairseq_nart.tools.benchmark.fairseq_engine import FairseqEngine

    extensions.load()
    return FairseqEngine(plan, model, device)

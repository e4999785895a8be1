"""The routes of the server: what each answers."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fairseq_nart.errors import UserError
from fairseq_nart.runtime import Lattice, Translator
from fairseq_nart.runtime.lattice import Path
from fairseq_nart.server import page
from fairseq_nart.server.batching import Batcher, BusyError, Candidates
from fairseq_nart.server.bodies import read_line, read_lines
from fairseq_nart.server.guard import Guard
from fairseq_nart.server.limits import Limits
from fairseq_nart.server.metrics import MEDIA_TYPE, Metrics


def application(model: Translator, limits: Limits, names: Collection[str] = ()) -> ASGIApp:
    """The ASGI application. `names` are the host names it answers to, beside localhost."""
    metrics = Metrics()
    batcher = Batcher(model, limits.waiting, metrics.batches)
    answers = _Answers(model, batcher, metrics, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with batcher:
            yield

    routes = [
        Route("/", answers.page),
        Route("/translate", answers.translate, methods=["POST"]),
        Route("/lattice", answers.lattice, methods=["POST"]),
        Route("/health", answers.health),
        Route("/metrics", answers.metrics),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _refused,
            UserError: _mistaken,
            BusyError: _busy,
            Exception: _failed,
        },
    )
    paths = {route.path for route in routes}
    return Guard(app, {name.lower() for name in names}, paths, metrics)


class _Answers:
    def __init__(
        self, model: Translator, batcher: Batcher, metrics: Metrics, limits: Limits
    ) -> None:
        self._model, self._batcher, self._metrics = model, batcher, metrics
        self._limits = limits
        self._page = page.load()

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page.html, headers=self._page.headers)

    async def translate(self, request: Request) -> Response:
        lines = await read_lines(request, self._limits)
        begin = time.perf_counter()
        translations = await asyncio.wrap_future(self._batcher.translate(lines))
        seconds = time.perf_counter() - begin
        self._metrics.seconds.observe(seconds)
        self._metrics.translated += len(lines)
        return JSONResponse(
            {
                "translations": list(map(_translation, lines, translations)),
                "milliseconds": round(seconds * 1000, 2),
            }
        )

    async def lattice(self, request: Request) -> Response:
        if not self._model.has_crf:
            raise HTTPException(404, f"{self._model.name} has no CRF, so it has no lattice")
        line = await read_line(request, self._limits)
        return JSONResponse(_lattice(await asyncio.wrap_future(self._batcher.lattice(line))))

    async def health(self, request: Request) -> Response:
        model = self._model
        return JSONResponse(
            {
                "status": "ok",
                "model": model.name,
                "system": model.system,
                "source": model.source_lang,
                "target": model.target_lang,
                "crf": model.has_crf,
            }
        )

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(self._batcher.waiting), media_type=MEDIA_TYPE)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _mistaken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _busy(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed: its log says why"}, 500)


def _translation(line: str, candidates: Candidates) -> dict[str, Any]:
    if not line.strip():
        return {"text": "", "score": 0.0, "alternatives": []}
    best, *others = ({"text": one.text, "score": _number(one.score)} for one in candidates)
    return {**best, "alternatives": others}


def _lattice(lattice: Lattice) -> dict[str, Any]:
    return {
        "candidates": lattice.candidates,
        "tokens": lattice.tokens,
        "ranks": lattice.ranks,
        "emissions": _numbers(lattice.emissions.tolist()),
        "transitions": _numbers(lattice.transitions.tolist()),
        "argmax": _path(lattice.argmax),
        "viterbi": _path(lattice.viterbi),
        "differing": lattice.differing,
    }


def _path(path: Path) -> dict[str, Any]:
    return {"columns": path.columns, "text": path.text, "log_prob": _number(path.log_prob)}


def _numbers(values: Any) -> Any:
    """Nested lists of numbers that JSON can hold."""
    return [_numbers(v) for v in values] if isinstance(values, list) else _number(values)


def _number(value: float) -> float | None:
    """JSON has no infinities."""
    return round(float(value), 4) if math.isfinite(value) else None

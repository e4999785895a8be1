"""Keeps pages of other sites out, sets the headers of every answer and counts the answers.

A browser sends requests for any page that its user visits, also to a server on the user's own
machine. Two checks stop pages of other sites:

- `Origin`, which browsers add to requests of a page, must be this server's own address.
- `Host` must be an IP address, localhost or a name that the server was given. Otherwise the owner
  of a domain could point it to this machine, and this server's answers would belong to that site.
"""

import ipaddress
import logging
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairseq_nart.server.metrics import Metrics

logger = logging.getLogger(__name__)

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware. `names` are host names in lower case; `paths` those counted by name."""

    def __init__(
        self, app: ASGIApp, names: Collection[str], paths: Collection[str], metrics: Metrics
    ) -> None:
        self._app, self._names, self._paths, self._metrics = app, names, paths, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        app = JSONResponse({"error": refusal}, 403) if refusal else self._app
        try:
            await app(scope, receive, answer)
        except Exception:
            # It is answered already. Raised on, it would make uvicorn close the connection.
            logger.exception("a request failed")
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests[path, status] += 1

    def _refusal(self, headers: Headers) -> str | None:
        host = headers.get("host", "").lower()
        if not self._ours(host):
            return (
                f"this server does not go by the name {host!r}: use its IP address, or start it "
                "with --allowed-host NAME"
            )
        origin = headers.get("origin")
        if origin is not None and not _same(origin.lower(), host):
            return "requests from pages of other sites are refused"
        return None

    def _ours(self, host: str) -> bool:
        parts = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d*)?", host)
        if not parts:
            return False
        name = parts[1].strip("[]")
        if name == "localhost" or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _same(origin: str, host: str) -> bool:
    """Whether both name the same server; a proxy may have replaced https by http."""
    try:
        address = urlsplit(origin)
    except ValueError:
        return False
    port = {"http": ":80", "https": ":443"}.get(address.scheme)
    return port is not None and address.netloc.removesuffix(port) == host.removesuffix(port)

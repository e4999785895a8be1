"""Runs the application on a socket until a signal stops it."""

import errno
import signal
import socket

import uvicorn
from starlette.types import ASGIApp

from fairseq_nart.errors import UserError

GRACE = 30
"""Seconds for requests in flight after a signal to stop; longer ones are dropped."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections. UserError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, the protocol makes asyncio send small packets at once, not after 40 ms (TCP_NODELAY).
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserError(_why_not(error, host, port)) from error
    return listening


def _why_not(error: OSError | OverflowError, host: str, port: int) -> str:
    if isinstance(error, OverflowError):
        return f"--port must be 0 to 65535, not {port}"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: give another as --port"
    return f"--host {host} --port {port}: {error.strerror}: give others"


def address_of(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def server_of(app: ASGIApp) -> uvicorn.Server:
    """A server that logs only its own failures."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            # The choices of uvicorn[standard], if it is installed, would differ from those tested.
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # Longer than proxies keep an idle connection: they must be the ones to close it.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE,
        )
    )


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT; then answers the requests in flight and returns."""
    server = server_of(app)
    # uvicorn raises the signal again once it has stopped. With handlers of our own, this does not
    # end the process with a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listening])

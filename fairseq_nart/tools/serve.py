"""Serves an exported model over HTTP, with a page to try it."""

import argparse
from pathlib import Path

from fairseq_nart.errors import UserError
from fairseq_nart.server.limits import Limits
from fairseq_nart.tools import _decoding

NO_SERVER = "the server needs starlette and uvicorn: pip install starlette uvicorn"
LIMITS = {
    "body": "bytes of a request",
    "lines": "lines of a request",
    "characters": "characters of a line",
    "waiting": "requests that wait at a time; more are refused",
}
"""Meanings of the options --max-NAME."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart serve`."""
    parser.add_argument(
        "folder", type=Path, nargs="?", help="exported model (default: a small demo model)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="domain name of this server, such as translate.example.org; may be repeated",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model")
    _decoding.add_arguments(parser)
    for name, meaning in LIMITS.items():
        default = getattr(Limits, name)
        parser.add_argument(
            f"--max-{name}",
            type=int,
            default=default,
            metavar="N",
            help=f"most {meaning} (default: {default})",
        )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart serve`."""
    limits = Limits(**{name: getattr(options, f"max_{name}") for name in LIMITS})
    try:
        from fairseq_nart import runtime
        from fairseq_nart.server import running
        from fairseq_nart.server.app import application
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise UserError(NO_SERVER) from error

    folder, note = options.folder, ""
    if folder is None:
        folder, note = runtime.demo_folder(), " (a small demo model; give a folder to serve yours)"
    with running.listen(options.host, options.port) as listening:
        model = runtime.load(folder, options.threads, **_decoding.decoding(options))
        print(f"model: {model.name}{note}")
        print(f"ready: {running.address_of(listening)} (Ctrl-C stops)", flush=True)
        app = application(model, limits, [options.host, *options.allowed_host])
        running.run(app, listening)

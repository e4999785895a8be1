"""Connects to a Ray cluster. Needs no torch."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fairseq_nart.errors import UserError

LOCAL = "local"
"""The address that starts a cluster of this machine alone, for the length of the call."""


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Connects to the cluster at `address` (auto: the one of this machine) during the block.

    UserError if Ray is not installed, ConnectionError if there is no cluster.
    """
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ModuleNotFoundError as error:
        raise UserError('--ray needs Ray: pip install "ray[data]"') from error
    ray.init(address, log_to_driver=False, include_dashboard=False if address == LOCAL else None)
    try:
        yield
    finally:
        ray.shutdown()

"""Loads a user's package that registers further systems (docs/adding-a-system.md)."""

import os
from argparse import Namespace

VARIABLE = "FAIRSEQ_NART_USER_DIR"
"""Environment variable that passes the folder on to child processes."""


def load(folder: str | None = None) -> None:
    """Imports the package in `folder`, or the one that the parent process loaded, if any."""
    folder = folder or os.environ.get(VARIABLE)
    if folder:
        from fairseq import utils

        os.environ[VARIABLE] = os.path.abspath(folder)
        utils.import_user_module(Namespace(user_dir=folder))

"""Loads a user's package that registers further systems (docs/adding-a-system.md)."""

import os
from argparse import Namespace

from fairseq_nart.errors import UserError

VARIABLE = "FAIRSEQ_NART_USER_DIR"
"""Environment variable that passes the folder on to child processes."""


def load(folder: str | None = None) -> None:
    """Imports the package in `folder`, or the one that the parent process loaded, if any.

    UserError if there is no such folder.
    """
    folder = folder or os.environ.get(VARIABLE)
    if folder:
        if not os.path.isdir(folder):
            raise UserError(f"--user-dir {folder} is not a folder: give that of your package")
        from fairseq import utils

        os.environ[VARIABLE] = os.path.abspath(folder)
        utils.import_user_module(Namespace(user_dir=folder))

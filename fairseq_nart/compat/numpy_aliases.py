"""Restores names that NumPy removed and fairseq still uses.

``np.float`` breaks the training of fairseq's own CRF model. ``np.int`` breaks span masking without
overlap, which has a second bug, a random generator without ``randint``; translation does not use
span masking. ``np.compat.long`` and the argument ``interpolation`` of ``np.percentile``, now
``method``, break ``--num-batch-buckets``.
"""

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np

from fairseq_nart.compat._patch import view_module

_FILES = (
    "fairseq.modules.dynamic_crf_layer",
    "fairseq.data.data_utils",
    "fairseq.data.language_pair_dataset",
)


def restore_aliases() -> None:
    """Give these files a NumPy with the old names; other modules are not affected."""
    old = {"float": float, "int": int, "compat": SimpleNamespace(long=int)}
    for name in _FILES:
        view_module(importlib.import_module(name), "np", percentile=_percentile, **old)


def _percentile(values: Any, q: Any, interpolation: Any = "linear") -> Any:
    return np.percentile(values, q, method=interpolation)

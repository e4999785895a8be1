"""What NumPy removed and fairseq still uses.

``np.float`` in the dynamic CRF layer stops fairseq's own CRF model in training. ``np.int`` in
``data_utils`` stops span masking without overlap (which then meets a further fault: a random
generator without ``randint``; translation uses no span masking). ``np.compat.long`` and the
argument ``interpolation`` of ``np.percentile``, now ``method``, stop ``--num-batch-buckets``.
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
    """Give these files a NumPy with the old names; the NumPy of all others keeps none."""
    old = {"float": float, "int": int, "compat": SimpleNamespace(long=int)}
    for name in _FILES:
        view_module(importlib.import_module(name), "np", percentile=_percentile, **old)


def _percentile(values: Any, q: Any, interpolation: Any = "linear") -> Any:
    return np.percentile(values, q, method=interpolation)

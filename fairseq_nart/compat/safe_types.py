"""The types that torch may build while it reads a file or a message of another process.

``torch.load(weights_only=True)`` builds tensors and plain containers. These lists are all that is
allowed beyond that, each entry with its reason. None of the types runs code of the file.
"""

import argparse
import collections
import importlib
import pickle
import typing
from typing import Any

import numpy as np

# NumPy 2 writes the first name, NumPy 1 wrote the second.
_NUMPY_MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
_NUMBER_TYPES = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def _number_dtype(name: str, *_flags: bool) -> "np.dtype[Any]":
    """Stand-in for ``numpy.dtype`` that returns the shared dtype object of a number type.

    The real one makes copies, whose flags the file could then set to make NumPy read numbers as
    object pointers. The shared objects cannot be changed that way.
    """
    if name not in _NUMBER_TYPES:
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL numpy.dtype({name!r})")
    return np.dtype(name)


def in_checkpoints() -> list[Any]:
    """The types in files that fairseq-train writes."""
    # Neither function has a public name, so take both from what pickle would call.
    reconstruct = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    return [
        argparse.Namespace,  # the options: attributes without methods
        np.ndarray,  # in the meters: validation counts of BLEU
        (_number_dtype, "numpy.dtype"),  # of these arrays; only numbers, never objects
        *(type(np.dtype(name)) for name in _NUMBER_TYPES),  # what the line above returns
        # An empty array, which the file then fills; a number of a meter or a score.
        *((reconstruct, f"{module}._reconstruct") for module in _NUMPY_MODULES),
        *((scalar, f"{module}.scalar") for module in _NUMPY_MODULES),
    ]


def in_messages() -> list[Any]:
    """The types in what the first process of a training run sends to the others.

    Allowed in such messages only, not in files.
    """
    utils: Any = importlib.import_module("fairseq.distributed.utils")
    from omegaconf import DictConfig, ListConfig
    from omegaconf.base import ContainerMetadata, Metadata
    from omegaconf.nodes import AnyNode

    return [
        # The options, which are omegaconf's objects by then, and the parts of these objects.
        *(DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode, collections.defaultdict),
        *(typing.Any, dict, list, int),  # the types that the metadata name
        utils._TensorPlaceholder,  # stands for a tensor that is sent apart
    ]

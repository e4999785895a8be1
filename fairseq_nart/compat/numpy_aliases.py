"""NumPy names that NumPy removed and two files of fairseq still use.

``np.float`` in the dynamic CRF layer stops fairseq's own CRF model in training; ``np.int`` in
``data_utils`` stops span masking without overlap (which then meets a further fault, a random
generator without ``randint``; translation uses no span masking).
"""

import importlib

from fairseq_nart.compat._patch import view_module


def restore_aliases() -> None:
    """Give those two files a NumPy with the old names; the NumPy of all others keeps none."""
    for name in ("fairseq.modules.dynamic_crf_layer", "fairseq.data.data_utils"):
        view_module(importlib.import_module(name), "np", float=float, int=int)

"""Non-autoregressive translation for fairseq: NART, NART-CRF and NART-DCRF (arXiv 1910.11555).

`fairseq-train|generate|interactive --user-dir fairseq_nart` finds the task, the architectures and
the criterion by itself. `fairseq_nart.crf` needs torch alone; `fairseq_nart.hub` is the Python API.
"""

__version__ = "0.2.0"

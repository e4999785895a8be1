"""NART-CRF: NART with a linear-chain CRF as its output layer (arXiv 1910.11555, section 3.2)."""

from fairseq_nart.models._registry import register_system
from fairseq_nart.models.nart import Nart

register_system("nart_crf", "NART-CRF", output="crf")(Nart)

"""NART-DCRF: transitions that depend on the decoder's states (arXiv 1910.11555, section 3.3)."""

from fairseq_nart.models._registry import register_system
from fairseq_nart.models.nart import Nart

register_system("nart_dcrf", "NART-DCRF", output="dcrf")(Nart)

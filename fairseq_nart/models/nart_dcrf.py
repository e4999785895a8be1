"""NART-DCRF: transitions that depend on neighbouring decoder states (arXiv 1910.11555, 3.3)."""

from fairseq.models import register_model

from fairseq_nart.models._presets import register_sizes
from fairseq_nart.models.nart_crf import NartCrf


@register_model("nart_dcrf")
class NartDcrf(NartCrf):
    """NART-CRF with M = E1 f([h_{i-1}; h_i]) E2^T in place of E1 E2^T."""

    dynamic = True


register_sizes("nart_dcrf")

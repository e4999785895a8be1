"""VQ-VAE trained by soft EM (Roy, Vaswani, Neelakantan and Parmar 2018, arXiv 1805.11063).

Where the paper gives no details, this follows the released code.
"""

from dataclasses import dataclass, field

from fairseq.tasks import FairseqTask

from fairseq_nart.latent.vector_quantizer import VectorQuantizer
from fairseq_nart.models._latent import LatentModel
from fairseq_nart.models._latent_options import CodebookConfig
from fairseq_nart.models._registry import register_system


@dataclass
class NartVqvaeConfig(CodebookConfig):
    """Options of the VQ-VAE."""

    code_samples: int = field(
        default=10,
        metadata={
            "help": "codes that soft EM samples for each latent in training; 0 for hard EM, which "
            "takes the nearest code",
            "at least": 0,
        },
    )


@register_system("nart_vqvae", "VQ-VAE")
class NartVqvae(LatentModel):
    """Latents by one codebook, whose vectors are moving averages."""

    runtime = "latent"
    Config = NartVqvaeConfig
    cfg: NartVqvaeConfig

    def __init__(self, cfg: NartVqvaeConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.commitment_weight = cfg.commitment_weight
        self.add_latents(
            VectorQuantizer(
                cfg.embed_dim,
                cfg.latent_bits,
                slices=1,
                samples=cfg.code_samples,
                decay=cfg.codebook_decay,
            )
        )

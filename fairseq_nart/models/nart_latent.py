"""The latent Transformer (Kaiser et al. 2018, arXiv 1803.03382).

As in the released code of June 2018, the decoder's input is the expanded latents; at first it also
reads some target tokens. Unlike there, the decoder is not causal and the number of latents is
predicted, not twice the source's length divided by C.
"""

from dataclasses import dataclass, field

from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import FairseqTask

from fairseq_nart.errors import UserError
from fairseq_nart.latent.semantic_hashing import SemanticHashing
from fairseq_nart.latent.vector_quantizer import VectorQuantizer
from fairseq_nart.models._latent import LatentModel
from fairseq_nart.models._latent_options import CodebookConfig
from fairseq_nart.models._registry import register_system
from fairseq_nart.options import require_default, typed


@dataclass
class NartLatentConfig(CodebookConfig):
    """Options of the latent Transformer."""

    quantizer: ChoiceEnum(["semhash", "dvq"]) = field(  # type: ignore[valid-type]
        default="semhash",
        metadata={
            "help": "how latents become discrete: improved semantic hashing, or decomposed vector "
            "quantisation"
        },
    )
    codebook_slices: int = field(
        default=2,
        metadata={"help": "parts of a latent with a codebook each, for dvq", "at least": 1},
    )


@register_system("nart_latent", "latent Transformer")
class NartLatent(LatentModel):
    """Latents by improved semantic hashing or decomposed vector quantisation."""

    runtime = "latent"
    Config = NartLatentConfig
    cfg: NartLatentConfig

    def __init__(self, cfg: NartLatentConfig, task: FairseqTask) -> None:
        """UserError for options of the other quantiser, and for slices that do not fit."""
        super().__init__(cfg, task)
        if cfg.quantizer == "semhash":
            why = "is for --quantizer dvq, but it is semhash: type --quantizer dvq, or leave it out"
            require_default(cfg, ("codebook_slices", "codebook_decay", "commitment_weight"), why)
            self.add_latents(SemanticHashing(cfg.embed_dim, cfg.ffn_embed_dim, cfg.latent_bits))
            return
        for name in ("embed_dim", "latent_bits"):
            if getattr(cfg, name) % cfg.codebook_slices:
                raise UserError(
                    f"{typed(name)} {getattr(cfg, name)} must be a multiple of --codebook-slices "
                    f"{cfg.codebook_slices}"
                )
        self.commitment_weight = cfg.commitment_weight
        self.add_latents(
            VectorQuantizer(
                cfg.embed_dim,
                cfg.latent_bits,
                slices=cfg.codebook_slices,
                samples=0,
                decay=cfg.codebook_decay,
            )
        )

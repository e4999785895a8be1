"""Options of systems with discrete latents."""

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import II

from fairseq_nart.generation.options import Deduplicating
from fairseq_nart.models._backbone import BackboneConfig


@dataclass
class LatentConfig(BackboneConfig):
    """Options of systems with latents. Phases are shares of the training, --max-update."""

    compression: int = field(
        default=8,
        metadata={"help": "C, target tokens per latent: a power of 2", "at least": 2},
    )
    latent_bits: int = field(
        default=12,
        metadata={
            "help": "binary logarithm of the number of latent codes",
            "at least": 1,
            "at most": 16,
        },
    )
    predictor_layers: Optional[int] = field(
        default=None,
        metadata={
            "help": "layers of the latent predictor (default: as many as the decoder)",
            "at least": 1,
        },
    )
    latent_loss_weight: float = field(
        default=0.5,
        metadata={"help": "weight of the latent predictor's loss per position", "at least": 0},
    )
    discrete_by: float = field(
        default=0.2,
        metadata={
            "help": "share of the training by which the latents of all sentences are discrete; "
            "before, a growing share of the sentences",
            "at least": 0,
            "at most": 1,
        },
    )
    hidden_by: float = field(
        default=0.1,
        metadata={
            "help": "share of the training by which the decoder reads no target token any more; "
            "before, it reads a falling share of them instead of latents",
            "at least": 0,
            "at most": 1,
        },
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "label smoothing of the word-level loss", "at least": 0, "below": 1},
    )
    max_update: int = field(default=II("optimization.max_update"), metadata={"at least": 0})


@dataclass
class CodebookConfig(LatentConfig):
    """Options of systems whose codes are vectors of a codebook."""

    codebook_decay: float = field(
        default=0.99,
        metadata={
            "help": "decay of the moving averages that are the vectors of the codebook",
            "at least": 0,
            "below": 1,
        },
    )
    commitment_weight: float = field(
        default=0.25,
        metadata={"help": "weight of the distance of latents from their code", "at least": 0},
    )


@dataclass
class LatentDecoding(Deduplicating):
    """Decoding options of systems with latents."""

    latent_samples: int = field(
        default=1,
        metadata={
            "help": "number of candidates: the most probable latents, one after the other, and "
            "samples of the latents",
            "at least": 1,
            "candidates": "sample",
        },
    )

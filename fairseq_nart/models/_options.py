"""Options of the models: dataclass fields, their defaults here and the sizes in `_presets`.

The bounds of a number are those of `generation.options.require_in_range`.
"""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass


@dataclass
class BackboneConfig(FairseqDataclass):
    """Options that every non-autoregressive system has."""

    encoder_layers: int = field(
        default=6, metadata={"help": "layers of the encoder", "at least": 1}
    )
    decoder_layers: int = field(
        default=6, metadata={"help": "layers of the decoder", "at least": 1}
    )
    embed_dim: int = field(
        default=512, metadata={"help": "width of embeddings and layers", "at least": 4}
    )
    ffn_embed_dim: int = field(
        default=2048, metadata={"help": "width of the feed-forward layers", "at least": 1}
    )
    attention_heads: int = field(default=8, metadata={"help": "attention heads", "at least": 1})
    dropout: float = field(
        default=0.1, metadata={"help": "dropout after each sub-layer", "at least": 0, "below": 1}
    )
    attention_dropout: float = field(
        default=0.0, metadata={"help": "dropout on attention weights", "at least": 0, "below": 1}
    )
    activation_dropout: float = field(
        default=0.0, metadata={"help": "dropout after the ReLU", "at least": 0, "below": 1}
    )
    normalize_before: bool = field(
        default=False, metadata={"help": "normalise before each sub-layer, as the teacher must too"}
    )
    mask_self_attention_diagonal: bool = field(
        default=False, metadata={"help": "no decoder position attends to itself"}
    )
    init_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "start from the weights of this checkpoint (a teacher, NART or NART-CRF) where "
            "names and shapes agree; a resumed run goes on from its own checkpoint"
        },
    )


@dataclass
class ByLengthConfig(BackboneConfig):
    """Options of the systems that choose a target length first."""

    length_predictor: ChoiceEnum(["offset", "classifier"]) = field(  # type: ignore[valid-type]
        default="offset",
        metadata={
            "help": "target length = source length + C with C from the training data (the paper's "
            "rule), or a learned classifier over the difference"
        },
    )
    length_loss_weight: float = field(
        default=1.0,
        metadata={"help": "weight of the length classifier's cross-entropy", "at least": 0},
    )
    label_smoothing: float = field(
        default=0.1,
        metadata={"help": "label smoothing of the word-level loss", "at least": 0, "below": 1},
    )


@dataclass
class NartConfig(ByLengthConfig):
    """Options of the systems whose decoder starts from the source alone."""

    decoder_input: ChoiceEnum(["pad", "hard_uniform", "soft_uniform"]) = field(  # type: ignore[valid-type]
        default="pad",
        metadata={
            "help": "what the decoder starts from: placeholders, or source embeddings copied "
            "uniformly (nearest token, or a soft average)"
        },
    )


@dataclass
class NartCrfConfig(NartConfig):
    """Options of the systems with a CRF."""

    crf_rank: int = field(
        default=32, metadata={"help": "rank of the transition matrix", "at least": 1}
    )
    crf_candidates: int = field(
        default=64,
        metadata={"help": "K, tokens per position that the CRF considers", "at least": 1},
    )
    nar_loss_weight: float = field(
        default=0.5,
        metadata={"help": "weight of the word-level loss beside the CRF's", "at least": 0},
    )


@dataclass
class NartRefinementConfig(NartConfig):
    """Options of iterative refinement."""

    train_iterations: int = field(
        default=4,
        metadata={"help": "passes that are trained, the first guess counted", "at least": 1},
    )
    denoising_probability: float = field(
        default=0.5,
        metadata={
            "help": "how often a pass is trained to mend a corrupted reference instead of "
            "the previous pass's output",
            "at least": 0,
            "at most": 1,
        },
    )


@dataclass
class NartFertilityConfig(BackboneConfig):
    """Options of the system with fertilities."""

    label_smoothing: float = field(
        default=0.1,
        metadata={"help": "label smoothing of the word-level loss", "at least": 0, "below": 1},
    )
    finetune_with: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of an autoregressive teacher whose distributions and rewards are "
            "learned from beside the data; for a model that is trained already"
        },
    )
    finetune_weight: float = field(
        default=0.25,
        metadata={
            "help": "lambda, the share of --finetune-with in the loss",
            "at least": 0,
            "at most": 1,
        },
    )


@dataclass
class NartCtcConfig(BackboneConfig):
    """Options of the system with connectionist temporal classification."""

    ctc_split: int = field(
        default=3,
        metadata={
            "help": "k, frames made of each source token: longest output k S",
            "at least": 1,
        },
    )

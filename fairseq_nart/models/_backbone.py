"""The base class of all systems: encoder, non-causal decoder, and the interface to fairseq."""

from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.data.side_inputs import SideInput
from fairseq_nart.errors import UserError
from fairseq_nart.generation.graph import Graph, example_source
from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.generation.system import Request
from fairseq_nart.layers import exporting
from fairseq_nart.layers.positions import SinusoidalPositions
from fairseq_nart.layers.states import Decoded, EncoderStates, Proposal
from fairseq_nart.layers.transformer import Decoder, Encoder, TransformerSize
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._registry import TASK
from fairseq_nart.options import require_in_range
from fairseq_nart.teacher.rescoring import TeacherRescorer


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
        default=False,
        metadata={"help": "normalise before each sub-layer; the teacher must do the same"},
    )
    mask_self_attention_diagonal: bool = field(
        default=False, metadata={"help": "no decoder position attends to itself"}
    )
    init_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "start from the weights of this checkpoint (a teacher, NART or NART-CRF) where "
            "names and shapes agree; a resumed run continues from its own checkpoint"
        },
    )


class NartModel(BaseFairseqModel):
    """A non-autoregressive system (`generation.system.System`) that can be trained.

    Subclasses implement `propose` and `decode` for decoding, and `forward` for training.
    """

    Config: type[BackboneConfig] = BackboneConfig
    """Its training options."""
    Decoding: type[DecodingOptions] = DecodingOptions
    idle_options: tuple[str, ...] = ()
    positional_attention: ClassVar[bool] = True
    """Whether decoder layers have positional attention (arXiv 1711.02281)."""
    own_score = "mean"
    widest_option: str | None = None
    side_inputs: ClassVar[tuple[SideInput, ...]] = ()
    """Further arguments of `forward`, passed by name."""
    runtime: ClassVar[str | None] = None
    """The module of `fairseq_nart.runtime` that decodes with its `graphs`; None if it cannot be
    exported. Not inherited, because a subclass may decode differently."""
    teacher: TeacherRescorer | None = None
    """The teacher used in fine-tuning. Not a submodule, so it is not saved."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.runtime = vars(cls).get("runtime")

    def __init__(self, cfg: BackboneConfig, task: FairseqTask) -> None:
        """UserError if an option is out of range."""
        super().__init__()
        require_in_range(cfg, self.Config)
        if cfg.embed_dim % cfg.attention_heads:
            raise UserError(
                f"--embed-dim {cfg.embed_dim} must be a multiple of --attention-heads "
                f"{cfg.attention_heads}"
            )
        self.cfg = cfg
        source, target = task.source_dictionary, task.target_dictionary
        self.pad = target.pad()
        self.forbidden = [target.pad(), target.bos()]
        self.vocab_size = len(target)
        self.longest_source, self.longest_target = task.max_positions()
        size = TransformerSize(
            dim=cfg.embed_dim,
            ffn_dim=cfg.ffn_embed_dim,
            heads=cfg.attention_heads,
            dropout=cfg.dropout,
            attention_dropout=cfg.attention_dropout,
            activation_dropout=cfg.activation_dropout,
            normalize_before=cfg.normalize_before,
        )
        embeddings = nn.Embedding(len(source), cfg.embed_dim, padding_idx=source.pad())
        nn.init.normal_(embeddings.weight, std=cfg.embed_dim**-0.5)
        nn.init.zeros_(embeddings.weight[source.pad()])
        self.encoder = Encoder(size, cfg.encoder_layers, embeddings, source.pad())
        self.decoder = Decoder(
            size,
            cfg.decoder_layers,
            # If the dictionaries are equal, one matrix serves both sides and the output layer.
            output_weight=embeddings.weight if source == target else None,
            vocab_size=len(target),
            first_position=self.pad + 1,
            mask_self=cfg.mask_self_attention_diagonal,
            positional_attention=self.positional_attention,
        )

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """Adds the fields of `Config` without defaults, which the presets supply."""
        gen_parser_from_dataclass(parser, cls.Config(), delete_default=True)

    @classmethod
    def build_model(cls, args: Namespace, task: FairseqTask) -> "NartModel":
        """Builds the model. UserError if `task` cannot decode in parallel."""
        if not hasattr(task, "build_engine"):
            raise UserError(
                f"{args.arch} needs the task {TASK}: type --task {TASK}, or leave --task out "
                "and type --user-dir fairseq_nart"
            )
        return cls(cls.Config.from_namespace(args), task)

    def max_positions(self) -> tuple[int, int]:
        """Longest source and target, the EOS included."""
        return self.longest_source, self.longest_target

    def most_positions(self) -> int:
        """Positions of the longest sequence that an encoder or decoder reads."""
        return max(self.max_positions())

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds this model's names to the weights of another system's checkpoint."""
        return weights

    def encode(self, source_tokens: Tensor) -> EncoderStates:
        """source_tokens (B,S), padded on either side -> the encoded source."""
        states: EncoderStates = self.encoder(source_tokens)
        return states

    def fit(self, source_lengths: Tensor, target_lengths: Tensor) -> str | None:
        """Estimates statistics from the training data and returns a message for the log.

        Both (sentences,), the EOS included.
        """
        return None

    def prepare_training(self, task: FairseqTask) -> None:
        """Reads what only training needs. Called for a new model, not for one that is
        loaded from a checkpoint."""

    def teacher_path(self) -> str | None:
        """The checkpoint of the `teacher` for fine-tuning, or None."""
        return None

    def drop_training_parts(self) -> None:
        """Removes what only training needs, before a trained model decodes."""

    def forbid(self, emissions: Tensor) -> Tensor:
        """emissions (...,V), raw logits -> the same tensor, with forbidden tokens set to -inf."""
        for token in self.forbidden:  # one by one: indexing by a list would wait for a GPU
            emissions[..., token] = float("-inf")
        return emissions

    def decoding_emissions(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (BN,T,D), mask (BN,T) -> logits with -inf for forbidden tokens.

        On a CPU with padding they are (P,V), for the P positions in the mask only: with 19 lengths
        per sentence, two of five positions are padding. Otherwise they are (BN,T,V), since
        selecting positions would wait for a GPU.
        """
        if exporting.active():
            return self.graph_output(features)
        if mask.device.type == "cpu" and not mask.all():
            features = features[mask]
        return self.forbid(self.decoder.output_projection(features))

    def graphs(self) -> list[Graph]:
        """The graphs of an export, for its `runtime` module."""
        raise NotImplementedError

    def constants(self) -> dict[str, Any]:
        """What the `runtime` module needs besides the graphs, for JSON."""
        return {}

    def arrays(self) -> dict[str, Tensor]:
        """What the `runtime` module needs besides graphs and constants, too large for JSON."""
        return {}

    def encoder_graph(self, **further: Tensor) -> tuple[Graph, dict[str, Tensor]]:
        """The graph `encode`, and its outputs for its example, which are inputs of the next graph.

        `further` are examples of what `encoded` takes besides the tokens.
        """
        weight = self.decoder.output_projection.weight
        for module in self.modules():
            if isinstance(module, SinusoidalPositions):
                module.reach(self.most_positions())
        self.graph_output = exporting.Output(weight, self.forbidden, *self.further_outputs())
        example = {"tokens": example_source(), **further}
        with torch.no_grad(), exporting.activated():
            outputs = self.encoded(**example)
        return Graph("encode", self.encoded, self, example), outputs

    def further_outputs(self) -> list[Tensor]:
        """Vectors (D,) whose products with the features follow the vocabulary's in a graph."""
        return []

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """tokens (B,S), padded on the right -> what decoding needs, and further outputs."""
        states = self.encode(tokens)
        return {"memory": self.decoder.memory(states.output)}

    def propose(self, states: EncoderStates, options: Any) -> Proposal:
        """The targets to decode for each sentence."""
        raise NotImplementedError

    def decode(self, request: Request) -> Decoded:
        """Decodes the proposed targets."""
        raise NotImplementedError

    def sentence_elements(self, source: int, options: Any) -> int:
        """Elements of the largest tensor of `encode` and `propose` for `source` tokens."""
        return source * self.cfg.ffn_embed_dim

    def row_elements(self, length: int, source: int, options: Any) -> int:
        """Elements of the largest tensor of `decode` for one target of `length` positions.

        torch's fused attention stores no weights, at most a mask.
        """
        wide = max(self.vocab_size, self.cfg.ffn_embed_dim, length, source)
        return max(length * wide, source * self.cfg.embed_dim)

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """Owner, attribute and table label of each function that a benchmark times."""
        parts = {"encode": "encoder", "propose": "length", "decode": "decoder"}
        return [(self, name, part) for name, part in parts.items()]

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """source_tokens (B,S), target (B,T) right-padded, EOS included -> loss terms."""
        raise NotImplementedError

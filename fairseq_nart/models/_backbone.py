"""What all our systems share: encoder, non-causal decoder, and their fairseq glue."""

from argparse import Namespace
from typing import Any, ClassVar

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.generation.options import DecodingOptions, require_in_range
from fairseq_nart.generation.rescore import TeacherRescorer
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.layers.transformer import Decoder, Encoder, TransformerSize
from fairseq_nart.models._options import BackboneConfig
from fairseq_nart.models._presets import TASK


class NartModel(BaseFairseqModel):
    """A non-autoregressive system: subclasses say what is proposed, decoded and learned.

    Generation calls `encode`, `propose` and `decode`; training calls `forward`.
    """

    Config: type[BackboneConfig] = BackboneConfig
    decoding_options: ClassVar[tuple[str, ...]] = ()
    """Those of `DecodingOptions` that this system understands."""
    positional_attention: ClassVar[bool] = True
    """Whether decoder layers have it (arXiv 1711.02281)."""
    own_score: ClassVar[str] = "mean"
    """How its log-probabilities rank candidates where no teacher does: see `normalize`."""
    widest_option: ClassVar[str | None] = None
    """The option of decoding that multiplies the memory of one sentence or one target."""
    side_inputs: ClassVar[tuple[str, ...]] = ()
    """What `forward` needs beside source and target, by keyword: the task brings it."""
    teacher: TeacherRescorer | None = None
    """Whom a training asks; not one of the model's modules, and in no checkpoint."""

    def __init__(self, cfg: BackboneConfig, task: FairseqTask) -> None:
        """ValueError where a number is out of its range."""
        super().__init__()
        require_in_range(cfg, self.Config)
        if cfg.embed_dim % cfg.attention_heads:
            raise ValueError(
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
            # One matrix for both sides and the output layer wherever the dictionaries are one.
            output_weight=embeddings.weight if source == target else None,
            vocab_size=len(target),
            first_position=self.pad + 1,
            mask_self=cfg.mask_self_attention_diagonal,
            positional_attention=self.positional_attention,
        )

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """Adds the fields of `Config`, without defaults, which the presets fill."""
        gen_parser_from_dataclass(parser, cls.Config(), delete_default=True)

    @classmethod
    def build_model(cls, args: Namespace, task: FairseqTask) -> "NartModel":
        """Builds the model; ValueError where `task` does not decode in parallel."""
        if not hasattr(task, "build_engine"):
            raise ValueError(
                f"{args.arch} needs the task {TASK}: type --task {TASK}, or leave --task out "
                "beside --user-dir fairseq_nart"
            )
        return cls(cls.Config.from_namespace(args), task)

    def max_positions(self) -> tuple[int, int]:
        """Longest source and target, the ends of sentence included."""
        return self.longest_source, self.longest_target

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of another system's checkpoint under all the names that they have here."""
        return weights

    def encode(self, source_tokens: Tensor) -> EncoderStates:
        """source_tokens (B,S), padded on either side."""
        states: EncoderStates = self.encoder(source_tokens)
        return states

    def fit(self, source_lengths: Tensor, target_lengths: Tensor) -> str | None:
        """Takes from the training data what is counted, not learned; says what it found.

        Both (sentences,), the end of sentence counted.
        """
        return None

    def teacher_path(self) -> str | None:
        """The checkpoint of the `teacher` that a training needs."""
        return None

    def forbid(self, emissions: Tensor) -> Tensor:
        """emissions (...,V), raw logits -> the same, now -inf for what no target holds."""
        for token in self.forbidden:  # one by one: to index by a list would wait for a GPU
            emissions[..., token] = float("-inf")
        return emissions

    def decoding_emissions(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (BN,T,D), mask (BN,T) -> what tokens are chosen by; -inf for what none may be.

        (P,V) of the P positions in the mask alone: of 19 lengths of a sentence two positions of
        five are padding. Where all are in it, and on a GPU, which would have to be waited for,
        (BN,T,V) of all.
        """
        if mask.device.type == "cpu" and not mask.all():
            features = features[mask]
        return self.forbid(self.decoder.output_projection(features))

    def propose(self, states: EncoderStates, options: DecodingOptions) -> Proposal:
        """The targets to decode for each sentence."""
        raise NotImplementedError

    def sentence_elements(self, source: int, options: DecodingOptions) -> int:
        """Elements of the largest tensor that `encode` and `propose` fill for a sentence of
        `source` tokens; one of int64 counts twice."""
        return source * self.cfg.ffn_embed_dim

    def row_elements(self, length: int, source: int, options: DecodingOptions) -> int:
        """Those that `decode` fills for one target of `length` positions.

        Attention weights are none of them: torch's fused attention keeps no more than a mask.
        """
        wide = max(self.vocab_size, self.cfg.ffn_embed_dim, length, source)
        return max(length * wide, source * self.cfg.embed_dim)

    def decode(
        self,
        states: EncoderStates,
        proposal: Proposal,
        options: DecodingOptions,
        log_probs: bool = True,
    ) -> Decoded:
        """Says the targets that are proposed.

        With `log_probs` false the log-probabilities are left zero where they cost extra work.
        """
        raise NotImplementedError

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """source_tokens (B,S), target (B,T) right-padded, EOS included -> loss terms."""
        raise NotImplementedError


def most_probable(emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable tokens (B,T) and their log-probabilities (B,T), anything where not in the
    mask (B,T); emissions as `NartModel.decoding_emissions` has them."""
    best, tokens = emissions.float().max(dim=-1)
    log_probs = best - emissions.float().logsumexp(dim=-1)
    if emissions.dim() == 2:
        tokens = tokens.new_zeros(mask.shape).masked_scatter(mask, tokens)
        log_probs = log_probs.new_zeros(mask.shape).masked_scatter(mask, log_probs)
    return tokens, log_probs

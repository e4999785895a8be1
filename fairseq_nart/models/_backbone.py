"""What all one-pass systems share: encoder, lengths, non-causal decoder, and their fairseq glue."""

from argparse import Namespace
from typing import Any, ClassVar

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.lengths import build_length_predictor, candidate_window, length_mask
from fairseq_nart.layers.source_map import build_source_map
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.layers.transformer import Decoder, Encoder, TransformerSize
from fairseq_nart.models._options import NartConfig
from fairseq_nart.models._presets import TASK


class NartModel(BaseFairseqModel):
    """A one-pass system: subclasses say how features become a loss and how they become tokens.

    Generation calls `encode`, `predict_lengths` and `decode`; training calls `forward`.
    """

    Config: type[NartConfig] = NartConfig

    def __init__(self, cfg: NartConfig, task: FairseqTask) -> None:
        super().__init__()
        self.cfg = cfg
        source, target = task.source_dictionary, task.target_dictionary
        self.pad = target.pad()
        self.never = [target.pad(), target.bos()]
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
        self.lengths = build_length_predictor(cfg.length_predictor, cfg.embed_dim)
        self.source_map = build_source_map(cfg.decoder_input, cfg.embed_dim)
        self.decoder = Decoder(
            size,
            cfg.decoder_layers,
            # One matrix for both sides and the output layer wherever the dictionaries are one.
            output_weight=embeddings.weight if source == target else None,
            vocab_size=len(target),
            first_position=self.pad + 1,
            mask_self=cfg.mask_self_attention_diagonal,
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

    def encode(self, source_tokens: Tensor) -> EncoderStates:
        """source_tokens (B,S), padded on either side."""
        states: EncoderStates = self.encoder(source_tokens)
        return states

    decoding_options: ClassVar[tuple[str, ...]] = ("length_candidates", "dedup")
    """Those of `DecodingOptions` that this system understands."""

    def propose(self, states: EncoderStates, options: DecodingOptions) -> Proposal:
        """The targets to decode for each sentence: a window of lengths around the predicted one."""
        predicted = self.predict_lengths(states)
        window = candidate_window(predicted, options.length_candidates, self.longest_target)
        return Proposal(*window)

    def predict_lengths(self, states: EncoderStates) -> Tensor:
        """(B,) target lengths, end of sentence included, not yet clamped."""
        return self.lengths.predict(states)

    def features(self, states: EncoderStates, mask: Tensor) -> tuple[Tensor, Tensor]:
        """mask (BN,T) of the target -> features (BN,T,D) and emissions (BN,T,V), raw logits."""
        x = self.source_map(states, mask)
        features = self.decoder(x, mask, states)
        return features, self.decoder.output_projection(features)

    def emissions(self, states: EncoderStates, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What decoding starts from: features (BN,T,D), emissions (BN,T,V) and mask (BN,T).

        lengths (B,N), N targets of each sentence; the emission of what no target holds is -inf.
        """
        mask = length_mask(lengths.flatten(), int(lengths.max()))
        features, emissions = self.features(states, mask)
        emissions[:, :, self.never] = float("-inf")
        return features, emissions, mask

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
        features, emissions, mask = self.emissions(states, proposal.lengths)
        tokens, scores = self.decode_emissions(features, emissions, mask, log_probs)
        return Decoded(tokens, scores, mask, proposal.valid)

    def decode_emissions(
        self, features: Tensor, emissions: Tensor, mask: Tensor, log_probs: bool
    ) -> tuple[Tensor, Tensor]:
        """features (B,T,D), emissions (B,T,V), mask (B,T) -> best tokens and log-probabilities."""
        raise NotImplementedError

    def word_loss_terms(
        self, features: Tensor, emissions: Tensor, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """features (B,T,D), emissions (B,T,V), target and mask (B,T) -> the system's terms."""
        raise NotImplementedError

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """source_tokens (B,S), target (B,T) right-padded, EOS included -> loss terms."""
        states = self.encode(source_tokens)
        mask = target.ne(self.pad)
        features, emissions = self.features(states, mask)
        terms = self.word_loss_terms(features, emissions, target, mask)
        for term in self.lengths.loss_terms(states, mask.sum(dim=1)):
            terms.append(LossTerm(term.name, term.sum, term.count, self.cfg.length_loss_weight))
        return terms

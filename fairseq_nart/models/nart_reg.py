"""NAT-REG: two regularisers that exist only in training (Wang et al. 2019, arXiv 1902.10245).

Decoder states of neighbouring positions must differ where their tokens do, and must suffice for an
autoregressive decoder to reconstruct the source. The paper does not state all details: the depth of
that decoder is an option, and its loss has no label smoothing.
"""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.layers.transformer import Decoder
from fairseq_nart.losses.similarity import neighbour_similarity
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._registry import register_system
from fairseq_nart.models.nart import Nart, NartConfig
from fairseq_nart.options import require_default


@dataclass
class NartRegConfig(NartConfig):
    """Options of NAT-REG."""

    similarity_weight: float = field(
        default=2.0,
        metadata={"help": "alpha, weight of the similarity of neighbouring states", "at least": 0},
    )
    reconstruction_weight: float = field(
        default=0.5,
        metadata={"help": "beta, weight of the reconstruction of the source", "at least": 0},
    )
    reconstruction_layers: Optional[int] = field(
        default=None,
        metadata={
            "help": "layers of the decoder that reconstructs the source (default: as many as the "
            "decoder)",
            "at least": 1,
        },
    )
    regularization_warmup: int = field(
        default=0,
        metadata={
            "help": "updates during which both weights grow from 0 to their values",
            "at least": 0,
        },
    )


@register_system("nart_reg", "NAT-REG", decoder_input="hard_uniform")
class NartReg(Nart):
    """NART with regularisers. It decodes as NART does, without what only training needs."""

    Config = NartRegConfig
    cfg: NartRegConfig
    runtime = "by_length"

    def __init__(self, cfg: NartRegConfig, task: FairseqTask) -> None:
        """UserError if an option is out of range, or concerns what a weight of 0 switches off."""
        super().__init__(cfg, task)
        self.eos = task.source_dictionary.eos()
        self.updates = 0
        self.reconstruction: Decoder | None = None
        if cfg.reconstruction_weight:  # last, so that the same seed gives NART's weights
            self.reconstruction = Decoder(
                self.decoder.size,
                cfg.reconstruction_layers or cfg.decoder_layers,
                output_weight=self.encoder.embed_tokens.weight,
                vocab_size=len(task.source_dictionary),
                first_position=task.source_dictionary.pad() + 1,
                mask_self=False,
                positional_attention=False,
                causal=True,
            )
        else:
            why = "has no effect with --reconstruction-weight 0: leave one of the two out"
            require_default(cfg, ["reconstruction_layers"], why)
        if not (cfg.similarity_weight or cfg.reconstruction_weight):
            why = "has no effect if both weights are 0: leave it out"
            require_default(cfg, ["regularization_warmup"], why)

    def set_num_updates(self, num_updates: int) -> None:
        """Called by fairseq before each update, also after training was resumed."""
        super().set_num_updates(num_updates)
        self.updates = num_updates

    def drop_training_parts(self) -> None:
        """Removes the decoder that reconstructs the source."""
        self.reconstruction = None

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """NART's terms, then those of the regularisers. Validation never reduces their weights, so
        that its losses are comparable."""
        features, terms = self.features_and_terms(states, target, mask)
        warmup = self.cfg.regularization_warmup
        share = min(1.0, self.updates / warmup) if warmup and self.training else 1.0
        if self.cfg.similarity_weight:
            embeddings = nn.functional.embedding(target, self.decoder.output_projection.weight)
            loss = neighbour_similarity(features, embeddings, mask)
            weight, pairs = share * self.cfg.similarity_weight, mask[:, 1:].sum()
            terms.append(LossTerm("similarity", loss, pairs, weight, in_nats=False))
        if self.reconstruction is not None:
            source = states.right_padded()
            tokens, real = source.tokens, source.mask
            logits = self.reconstructed(self.reconstruction, features, mask, tokens, real)
            loss = token_cross_entropy(logits, tokens, real, overwrite=True)
            weight = share * self.cfg.reconstruction_weight
            terms.append(LossTerm("reconstruction_loss", loss, real.sum(), weight))
        return terms

    def reconstructed(
        self, decoder: Decoder, features: Tensor, mask: Tensor, tokens: Tensor, real: Tensor
    ) -> Tensor:
        """features (B,T,D) and mask (B,T) of the target, tokens and mask (B,S) of the source,
        right-padded -> (B,S,V), logits of the source.

        Each position reads the features and the source tokens before it, nothing else.
        """
        previous = tokens.roll(1, dims=1)
        previous[:, 0] = self.eos
        memory = EncoderStates(features, features, mask, previous)  # only output and mask are read
        logits: Tensor = decoder.output_projection(decoder(decoder.embed(previous), real, memory))
        return logits

"""ENAT-E: the decoder's input is mapped source embeddings (Guo et al. 2019, arXiv 1812.09664)."""

from dataclasses import dataclass, field, replace

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.layers.adversary import Discriminator, reversed_gradient
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._registry import register_system
from fairseq_nart.models.nart import CopyingConfig, Nart
from fairseq_nart.options import require_default


@dataclass
class EnatEConfig(CopyingConfig):
    """Options of ENAT-E."""

    alignment_weight: float = field(
        default=0.1,
        metadata={
            "help": "mu, weight of the distance between the mean embeddings of both sentences",
            "at least": 0,
        },
    )
    adversary_weight: float = field(
        default=1.0,
        metadata={
            "help": "lambda, how strongly the mapping learns to deceive the discriminator of "
            "mapped and target embeddings; 0: there is no discriminator",
            "at least": 0,
        },
    )
    adversary_warmup: int = field(
        default=500,
        metadata={
            "help": "updates in which the adversary's influence on the mapping grows from 0 to its "
            "weight; the discriminator learns from the first update",
            "at least": 0,
        },
    )
    adversary_lr_scale: float = field(
        default=1.0,
        metadata={
            "help": "the discriminator's learning rate, as a multiple of --lr",
            "at least": 0.01,
        },
    )
    adversary_dim: int = field(
        default=1024, metadata={"help": "width of the discriminator", "at least": 1}
    )


@register_system("nart_enat_e", "ENAT-E", mask_self_attention_diagonal=True)
class NartEnatE(Nart):
    """Source embeddings pass through a linear layer and are copied uniformly to the decoder's
    input. Two losses make them resemble target embeddings: the distance of the means of both
    sentences, and the loss of a discriminator of words, whose gradient is reversed.

    Not from the paper: the mapping starts as the identity, and the adversary trains the mapping
    alone, not the embeddings, with an influence that grows from 0.
    """

    Config = EnatEConfig
    cfg: EnatEConfig
    runtime = "by_length"

    def __init__(self, cfg: EnatEConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.mapping = nn.Linear(cfg.embed_dim, cfg.embed_dim, bias=False)
        nn.init.eye_(self.mapping.weight)
        self.first_word = (task.source_dictionary.nspecial, task.target_dictionary.nspecial)
        self.updates = 0
        self.discriminator: Discriminator | None = None
        if cfg.adversary_weight:  # last, so that the same seed gives NART's weights
            self.discriminator = Discriminator(
                cfg.embed_dim, cfg.adversary_dim, cfg.adversary_lr_scale
            )

    def prepare_training(self, task: FairseqTask) -> None:
        """UserError for options of a discriminator that does not exist."""
        if not self.cfg.adversary_weight:
            why = "has no effect with --adversary-weight 0: leave one of the two out"
            names = ("adversary_warmup", "adversary_lr_scale", "adversary_dim")
            require_default(self.cfg, names, why)

    def drop_training_parts(self) -> None:
        """Removes the discriminator."""
        self.discriminator = None

    def set_num_updates(self, num_updates: int) -> None:
        """Called by fairseq's trainer."""
        super().set_num_updates(num_updates)
        self.updates = num_updates

    def encode(self, source_tokens: Tensor) -> EncoderStates:
        """The encoded source; its `embeddings` are mapped."""
        states = super().encode(source_tokens)
        return replace(states, embeddings=self.mapping(states.embeddings))

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """The terms of NART, of the alignment and, in training, of the adversary."""
        terms = super().word_loss_terms(states, target, mask)
        source, words = self.words(states.tokens, target)
        if self.cfg.alignment_weight:
            embeddings = self.decoder.embed(target)
            distance = mean_distance(states.embeddings, source, embeddings, words).sum()
            weight = self.cfg.alignment_weight
            terms.append(LossTerm("alignment_loss", distance, len(mask), weight, in_nats=False))
        if self.discriminator is not None and self.training:
            mapped = self.mapping(self.encoder.embed(states.tokens[source]).detach())
            real = self.decoder.embed(target[words]).detach()
            loss = self.discriminator.loss(reversed_gradient(mapped, self.influence()), real)
            terms.append(LossTerm("adversary_loss", loss, source.sum() + words.sum()))
        return terms

    def words(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """source (B,S), target (B,T) -> where they hold words, neither padding nor specials."""
        return source >= self.first_word[0], target >= self.first_word[1]

    def influence(self) -> float:
        """The factor of the reversed gradient, which grows linearly during the warm-up."""
        grown = min(1.0, self.updates / max(1, self.cfg.adversary_warmup))
        return self.cfg.adversary_weight * grown


def mean_distance(one: Tensor, mask: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
    """Euclidean distance of the mean vectors of each sentence: one (B,S,D) and mask (B,S), other
    (B,T,D) and its mask (B,T) -> (B,); 0 where a side is empty."""
    means = []
    for x, words in ((one, mask), (other, other_mask)):
        total = (x.float() * words[..., None]).sum(dim=1)
        means.append(total / words.sum(dim=1, keepdim=True).clamp(min=1))
    both = mask.any(dim=1) & other_mask.any(dim=1)
    return torch.linalg.vector_norm((means[0] - means[1]) * both[:, None], dim=1)

"""NART that also learns which words a sentence has, in any order: an example of a new system."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

import fairseq_nart.tasks.nart_translation  # noqa: F401  (the task, and all other systems)
from fairseq_nart.generation.system import Request
from fairseq_nart.layers.states import Decoded, EncoderStates, Proposal
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._registry import register_system
from fairseq_nart.models.nart import Nart, NartConfig, NartDecoding


@dataclass
class BagConfig(NartConfig):
    """Options of training."""

    bag_weight: float = field(
        default=0.1, metadata={"help": "weight of the loss of the bag of words", "at least": 0}
    )


@dataclass
class BagDecoding(NartDecoding):
    """Options of decoding."""

    length_shift: int = field(
        default=0, metadata={"help": "tokens added to each target length", "at least": 0}
    )


@dataclass(frozen=True)
class BagProposal(Proposal):
    """Target lengths with what was added to them."""

    shift: Tensor
    """(B,N) tokens added."""


@register_system("nart_bag", "NART with a bag of words")
class NartBag(Nart):
    """Every position also predicts, on average, each word of the target."""

    Config = BagConfig
    Decoding = BagDecoding
    cfg: BagConfig

    def propose(self, states: EncoderStates, options: BagDecoding) -> BagProposal:
        proposal = super().propose(states, options)
        lengths = (proposal.lengths + options.length_shift).clamp(max=self.longest_target)
        return BagProposal(lengths, proposal.valid, shift=lengths - proposal.lengths)

    def decode(self, request: Request) -> Decoded:
        decoded = super().decode(request)
        added = request.proposal.shift.flatten()[:, None]  # (BN,1)
        return Decoded(decoded.tokens, decoded.log_probs - added, decoded.mask, decoded.valid)

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        _, emissions = self.run_decoder(states, mask)
        probs = emissions.softmax(dim=2).masked_fill(~mask[..., None], 0.0).sum(dim=1)  # (B,V)
        expected = torch.log(probs.gather(1, target).clamp(min=1e-6))  # (B,T)
        bag = -expected.masked_fill(~mask, 0.0).sum()
        terms = super().word_loss_terms(states, target, mask)
        return [*terms, LossTerm("bag_loss", bag, mask.sum(), self.cfg.bag_weight)]

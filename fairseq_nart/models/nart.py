"""NART: conditionally independent softmaxes over all positions (arXiv 1910.11555, eq. 2)."""

from fairseq.models import register_model
from torch import Tensor

from fairseq_nart.layers.states import LossTerm
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._by_length import ByLengthModel
from fairseq_nart.models._presets import register_sizes


def most_probable(emissions: Tensor) -> tuple[Tensor, Tensor]:
    """emissions (B,T,V) -> the most probable tokens (B,T) and their log-probabilities."""
    best, tokens = emissions.float().max(dim=2)
    return tokens, best - emissions.float().logsumexp(dim=2)


@register_model("nart")
class Nart(ByLengthModel):
    """One-pass translation without structure between the output tokens."""

    def word_loss_terms(
        self, features: Tensor, emissions: Tensor, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        smoothing = self.cfg.label_smoothing
        loss = token_cross_entropy(emissions, target, mask, smoothing, overwrite=True)
        return [LossTerm("nar_loss", loss, mask.sum())]

    def decode_emissions(
        self, features: Tensor, emissions: Tensor, mask: Tensor, log_probs: bool
    ) -> tuple[Tensor, Tensor]:
        return most_probable(emissions)


register_sizes("nart")

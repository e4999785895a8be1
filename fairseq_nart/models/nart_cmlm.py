"""Mask-predict: a conditional masked language model (Ghazvininejad et al. 2019, 1904.09324).

Not its length token: the length is predicted as in the other systems, and counts the end of
sentence, which is masked and predicted like any token.
"""

import torch
from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.masking import lowest, random_positions
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._backbone import most_probable
from fairseq_nart.models._by_length import ByLengthModel
from fairseq_nart.models._options import ByLengthConfig
from fairseq_nart.models._presets import register_sizes


@register_model("nart_cmlm")
class NartCmlm(ByLengthModel):
    """Fills the masked positions of a target; decoding masks again what it is least sure of."""

    decoding_options = (*ByLengthModel.decoding_options, "refinement_iterations")
    positional_attention = False

    def __init__(self, cfg: ByLengthConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.masked = nn.Parameter(torch.randn(cfg.embed_dim))

    def features(
        self, states: EncoderStates, tokens: Tensor, masked: Tensor, mask: Tensor
    ) -> Tensor:
        """tokens, masked, mask (BN,T) -> (BN,T,D), which see no token where masked."""
        x = torch.where(masked[..., None], self.masked, self.decoder.embed(tokens))
        features: Tensor = self.decoder(x, mask, states)
        return features

    def emissions(
        self, states: EncoderStates, tokens: Tensor, masked: Tensor, mask: Tensor
    ) -> Tensor:
        """As `features` -> (BN,T,V), raw logits."""
        features = self.features(states, tokens, masked, mask)
        emissions: Tensor = self.decoder.output_projection(features)
        return emissions

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """The cross-entropy at random masked positions, 1 to all of them."""
        # Validation hides the same ones in every epoch, or its losses would not compare.
        masked = random_positions(mask, seed=None if self.training else 1)
        emissions = self.emissions(states, target, masked, mask)
        smoothing = self.cfg.label_smoothing
        loss = token_cross_entropy(emissions, target, masked, smoothing, overwrite=True)
        return [LossTerm("masked_loss", loss, masked.sum())]

    def decode(
        self,
        states: EncoderStates,
        proposal: Proposal,
        options: DecodingOptions,
        log_probs: bool = True,
    ) -> Decoded:
        """As the base class says; of I passes the t-th (from 0) says floor(T (I - t) / I) tokens.

        A token keeps the probability that it had when it was said last.
        """
        passes, lengths = options.decoder_passes(), proposal.lengths.flatten()
        masked = mask = length_mask(lengths, int(lengths.max()))
        tokens = mask.long()
        scores = torch.zeros(mask.shape, device=mask.device)
        for t in range(passes):
            if t:
                masked = lowest(scores, mask, lengths * (passes - t) // passes)
            features = self.features(states, tokens, masked, mask)
            best, log = most_probable(self.decoding_emissions(features, masked), masked)
            tokens, scores = torch.where(masked, best, tokens), torch.where(masked, log, scores)
        return Decoded(tokens, scores, mask, proposal.valid, passes)


register_sizes("nart_cmlm")

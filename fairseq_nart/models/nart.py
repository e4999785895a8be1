"""NART: conditionally independent softmaxes over all positions (arXiv 1910.11555, eq. 2)."""

from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.source_map import build_source_map
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._backbone import most_probable
from fairseq_nart.models._by_length import ByLengthModel
from fairseq_nart.models._options import NartConfig
from fairseq_nart.models._presets import register_sizes


@register_model("nart")
class Nart(ByLengthModel):
    """One-pass translation without structure between the output tokens."""

    Config = NartConfig
    cfg: NartConfig

    def __init__(self, cfg: NartConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.source_map = build_source_map(cfg.decoder_input, cfg.embed_dim)

    def features(self, states: EncoderStates, mask: Tensor) -> Tensor:
        """mask (BN,T) of the target -> (BN,T,D), what the decoder makes of it."""
        features: Tensor = self.decoder(self.source_map(states, mask), mask, states)
        return features

    def run_decoder(self, states: EncoderStates, mask: Tensor) -> tuple[Tensor, Tensor]:
        """mask (BN,T) of the target -> features (BN,T,D) and emissions (BN,T,V), raw logits."""
        features = self.features(states, mask)
        return features, self.decoder.output_projection(features)

    def start_decoding(
        self, states: EncoderStates, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What tokens are chosen by: features (BN,T,D), `decoding_emissions`, and mask (BN,T).

        lengths (B,N), N targets of each sentence.
        """
        mask = length_mask(lengths.flatten(), int(lengths.max()))
        features = self.features(states, mask)
        return features, self.decoding_emissions(features, mask), mask

    def decode(
        self,
        states: EncoderStates,
        proposal: Proposal,
        options: DecodingOptions,
        log_probs: bool = True,
    ) -> Decoded:
        """As the base class says."""
        features, emissions, mask = self.start_decoding(states, proposal.lengths)
        tokens, scores = self.decode_emissions(features, emissions, mask, log_probs)
        return Decoded(tokens, scores, mask, proposal.valid)

    def decode_emissions(
        self, features: Tensor, emissions: Tensor, mask: Tensor, log_probs: bool
    ) -> tuple[Tensor, Tensor]:
        """What `start_decoding` found -> tokens, log-probs (BN,T)."""
        return most_probable(emissions, mask)

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        _, emissions = self.run_decoder(states, mask)
        smoothing = self.cfg.label_smoothing
        loss = token_cross_entropy(emissions, target, mask, smoothing, overwrite=True)
        return [LossTerm("nar_loss", loss, mask.sum())]


register_sizes("nart")

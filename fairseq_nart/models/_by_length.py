"""Systems that choose a target length first and fill all its positions at once."""

from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.lengths import build_length_predictor, candidate_window, length_mask
from fairseq_nart.layers.source_map import build_source_map
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.models._options import NartConfig


class ByLengthModel(NartModel):
    """Subclasses say how features become a loss and how they become tokens."""

    Config = NartConfig
    cfg: NartConfig
    decoding_options = ("length_candidates", "dedup")

    def __init__(self, cfg: NartConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.lengths = build_length_predictor(cfg.length_predictor, cfg.embed_dim)
        self.source_map = build_source_map(cfg.decoder_input, cfg.embed_dim)

    def fit(self, source_lengths: Tensor, target_lengths: Tensor) -> str:
        """Fits the length rule."""
        return self.lengths.fit(source_lengths, target_lengths)

    def propose(self, states: EncoderStates, options: DecodingOptions) -> Proposal:
        """A window of lengths around the predicted one."""
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
        """As the base class says."""
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
        """As the base class says."""
        states = self.encode(source_tokens)
        mask = target.ne(self.pad)
        features, emissions = self.features(states, mask)
        terms = self.word_loss_terms(features, emissions, target, mask)
        for term in self.lengths.loss_terms(states, mask.sum(dim=1)):
            terms.append(LossTerm(term.name, term.sum, term.count, self.cfg.length_loss_weight))
        return terms

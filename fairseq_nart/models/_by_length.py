"""Systems that choose a target length first and fill its positions in parallel."""

from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.lengths import build_length_predictor, candidate_window
from fairseq_nart.layers.states import EncoderStates, LossTerm, Proposal
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.models._options import ByLengthConfig


class ByLengthModel(NartModel):
    """Subclasses say how the words of a target are learned and how they are decoded."""

    Config = ByLengthConfig
    cfg: ByLengthConfig
    decoding_options = ("length_candidates", "dedup")

    def __init__(self, cfg: ByLengthConfig, task: FairseqTask) -> None:
        """ValueError where there is a weight of a loss, and no such loss."""
        super().__init__(cfg, task)
        if cfg.length_predictor == "offset" and cfg.length_loss_weight != 1:
            raise ValueError(
                f"--length-loss-weight {cfg.length_loss_weight} weighs the loss of "
                "--length-predictor classifier; offset has none"
            )
        self.lengths = build_length_predictor(cfg.length_predictor, cfg.embed_dim)

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

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """target and mask (B,T) -> the system's terms, lengths aside."""
        raise NotImplementedError

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """As the base class says."""
        states = self.encode(source_tokens)
        mask = target.ne(self.pad)
        terms = self.word_loss_terms(states, target, mask)
        for term in self.lengths.loss_terms(states, mask.sum(dim=1)):
            terms.append(LossTerm(term.name, term.sum, term.count, self.cfg.length_loss_weight))
        return terms

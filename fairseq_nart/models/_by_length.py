"""The base class of systems that first choose a target length, then fill its positions."""

from dataclasses import dataclass, field

from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.errors import UserError
from fairseq_nart.generation.options import LengthDecoding
from fairseq_nart.layers.lengths import build_length_predictor, candidate_window
from fairseq_nart.layers.states import EncoderStates, Proposal
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._backbone import BackboneConfig, NartModel


@dataclass
class ByLengthConfig(BackboneConfig):
    """Options of systems that first choose a target length."""

    length_predictor: ChoiceEnum(["offset", "ratio", "classifier"]) = field(  # type: ignore[valid-type]
        default="offset",
        metadata={
            "help": "target length = source length + C, or A x source length, with C or A from the "
            "training data, or a learned classifier over the difference"
        },
    )
    length_loss_weight: float = field(
        default=1.0,
        metadata={"help": "weight of the length classifier's cross-entropy", "at least": 0},
    )
    label_smoothing: float = field(
        default=0.1,
        metadata={"help": "label smoothing of the word-level loss", "at least": 0, "below": 1},
    )


class ByLengthModel(NartModel):
    """Subclasses implement `word_loss_terms` for training and `decode` for decoding."""

    Config = ByLengthConfig
    cfg: ByLengthConfig
    Decoding: type[LengthDecoding] = LengthDecoding

    def __init__(self, cfg: ByLengthConfig, task: FairseqTask) -> None:
        """UserError if --length-loss-weight is set for a predictor without a loss."""
        super().__init__(cfg, task)
        if cfg.length_predictor != "classifier" and cfg.length_loss_weight != 1:
            raise UserError(
                f"--length-loss-weight {cfg.length_loss_weight} weighs the loss of "
                f"--length-predictor classifier; {cfg.length_predictor} has none"
            )
        self.lengths = build_length_predictor(cfg.length_predictor, cfg.embed_dim)

    def fit(self, source_lengths: Tensor, target_lengths: Tensor) -> str:
        """Fits the length predictor and returns a message for the log; both (sentences,)."""
        return self.lengths.fit(source_lengths, target_lengths)

    def propose(self, states: EncoderStates, options: LengthDecoding) -> Proposal:
        """A window of lengths around the predicted one plus the offset."""
        predicted = self.predict_lengths(states) + options.length_offset
        window = candidate_window(predicted, options.length_candidates, self.longest_target)
        return Proposal(*window)

    def predict_lengths(self, states: EncoderStates) -> Tensor:
        """(B,) target lengths, the EOS included, not yet clamped."""
        return self.lengths.predict(states)

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """target and mask (B,T) -> the loss terms except that of lengths."""
        raise NotImplementedError

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """source_tokens (B,S), target (B,T) right-padded -> terms of the words and lengths."""
        states = self.encode(source_tokens)
        mask = target.ne(self.pad)
        terms = self.word_loss_terms(states, target, mask)
        for term in self.lengths.loss_terms(states, mask.sum(dim=1)):
            terms.append(LossTerm(term.name, term.sum, term.count, self.cfg.length_loss_weight))
        return terms

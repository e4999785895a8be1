"""NAT with fertilities: source tokens, each copied so often, become targets (arXiv 1711.02281)."""

import torch
from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.generation.options import DecodingOptions, FertilityDecoding
from fairseq_nart.generation.rescore import EncodedSource, TeacherRescorer
from fairseq_nart.layers import fertility
from fairseq_nart.layers.fertility import FertilityHead
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.source_map import copied
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.losses.distillation import reinforce, reverse_cross_entropy
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._backbone import NartModel, most_probable
from fairseq_nart.models._options import NartFertilityConfig
from fairseq_nart.models._presets import register_sizes

FIRST_CANDIDATE = {
    FertilityDecoding.argmax: fertility.most_probable,
    FertilityDecoding.average: fertility.average,
}


@register_model("nart_fertility")
class NartFertility(NartModel):
    """Fertilities and tokens are learned from an alignment, then perhaps from the teacher itself.

    Differs from the paper in that every decoder layer reads the last encoder layer, as fairseq's
    do, not the one of its own height, and in that copies carry no positions of the source.
    """

    Config = NartFertilityConfig
    cfg: NartFertilityConfig
    decoding_options = ("fertility_samples", "fertility_decoding", "dedup")
    widest_option = "fertility_samples"
    side_inputs = ("fertilities",)

    def __init__(self, cfg: NartFertilityConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.fertility = FertilityHead(cfg.embed_dim)

    def teacher_path(self) -> str | None:
        """That of fine-tuning; ValueError where it has a weight and no teacher."""
        weighted = self.cfg.finetune_weight != self.Config.finetune_weight
        if weighted and not self.cfg.finetune_with:
            raise ValueError(
                "--finetune-weight is about a teacher: name it by --finetune-with, or leave it out"
            )
        return self.cfg.finetune_with

    def propose(self, states: EncoderStates, options: DecodingOptions) -> Proposal:
        """The most probable or average fertilities, then samples."""
        logits = self.fertility(states)
        proposed = FIRST_CANDIDATE[options.fertility_decoding](logits)[:, None]  # (B,1,S)
        if drawn := options.fertility_samples - 1:
            more = fertility.draw(logits, states.mask, drawn)
            proposed = torch.cat([proposed, more], dim=1)
        return self._proposal(states, proposed)

    def sentence_elements(self, source: int, options: DecodingOptions) -> int:
        """As the base class says: perhaps the fertilities of all samples, which are int64."""
        fertilities = 2 * options.fertility_samples * source
        return max(super().sentence_elements(source, options), fertilities)

    def _proposal(self, states: EncoderStates, fertilities: Tensor) -> Proposal:
        """fertilities (B,N,S) of real tokens, whatever they sum to."""
        fertilities = fertility.settle(fertilities, states.mask, self.longest_target)
        lengths = fertilities.sum(dim=2)
        return Proposal(lengths, torch.ones_like(lengths, dtype=torch.bool), fertilities)

    def features(self, states: EncoderStates, fertilities: Tensor, mask: Tensor) -> Tensor:
        """fertilities (B,N,S), mask (BN,T) of their targets -> (BN,T,D)."""
        index = fertility.copy_index(fertilities.flatten(0, 1), mask.size(1))
        features: Tensor = self.decoder(copied(states, index), mask, states)
        return features

    def emissions(self, states: EncoderStates, fertilities: Tensor, mask: Tensor) -> Tensor:
        """As `features` -> (BN,T,V), raw logits."""
        emissions: Tensor = self.decoder.output_projection(self.features(states, fertilities, mask))
        return emissions

    def decode(
        self,
        states: EncoderStates,
        proposal: Proposal,
        options: DecodingOptions,
        log_probs: bool = True,
    ) -> Decoded:
        """As the base class says."""
        mask = length_mask(proposal.lengths.flatten(), int(proposal.lengths.max()))
        features = self.features(states, proposal.fertilities, mask)
        said = most_probable(self.decoding_emissions(features, mask), mask)
        return Decoded(*said, mask, proposal.valid)

    def forward(self, source_tokens: Tensor, target: Tensor, fertilities: Tensor) -> list[LossTerm]:
        """As the base class says; fertilities (B,S) sum to the targets' lengths, 0 at padding."""
        states = self.encode(source_tokens)
        mask = target.ne(self.pad)
        emissions = self.emissions(states, fertilities[:, None], mask)
        logits = self.fertility(states)
        teacher = self.teacher if self.training else None
        # The teacher's term needs the emissions no more: a softmax keeps its result.
        nar = token_cross_entropy(emissions, target, mask, self.cfg.label_smoothing, overwrite=True)
        gold = fertility.log_likelihood(logits, fertilities, states.mask).sum()
        share = 1.0 if teacher is None else 1.0 - self.cfg.finetune_weight
        terms = [
            LossTerm("nar_loss", nar, mask.sum(), share),
            LossTerm("fertility_loss", -gold, states.mask.sum(), share),
        ]
        if teacher is not None:
            terms += self._finetuning_terms(teacher, source_tokens, states, logits, emissions, mask)
        return terms

    def _finetuning_terms(
        self,
        teacher: TeacherRescorer,
        source_tokens: Tensor,
        states: EncoderStates,
        logits: Tensor,
        emissions: Tensor,
        mask: Tensor,
    ) -> list[LossTerm]:
        """Section 4's two: the decoder learns from the teacher, the fertilities by REINFORCE.

        logits (B,S,L) of the fertilities; emissions (B,T,V) and mask (B,T) of the supervised ones.
        """
        teacher.follow(next(self.parameters()))
        with torch.no_grad():
            encoded = teacher.encode(source_tokens, states.lengths)
            drawn = torch.multinomial(logits.softmax(dim=2).flatten(0, 1), 1).view(logits.shape[:2])
            both = torch.stack([drawn, fertility.average(logits)], dim=1)  # (B,2,S)
            proposal = self._proposal(states, both)
            theirs = length_mask(proposal.lengths.flatten(), int(proposal.lengths.max()))
            words = self.emissions(states, proposal.fertilities, theirs)
            rows = torch.arange(len(mask), device=mask.device)
            pairs = rows.repeat_interleave(2)
            # As the released code and not the paper, a draw costs what its tokens do on average: a
            # sum rewards short outputs. It counts as the tokens of the reference.
            each = self._costs(teacher, encoded, pairs, words, theirs) / proposal.lengths.flatten()
            costs = each.view(-1, 2) * mask.sum(dim=1, keepdim=True)
        gold = self._costs(teacher, encoded, rows, emissions, mask).sum()
        likelihood = fertility.log_likelihood(logits, drawn, states.mask)
        rewarded = reinforce(likelihood, costs[:, 0], baseline=costs[:, 1])
        weight = self.cfg.finetune_weight
        return [
            LossTerm("rkl_loss", gold, mask.sum(), weight),
            LossTerm("reinforce", rewarded, len(mask), weight),
        ]

    @staticmethod
    def _costs(
        teacher: TeacherRescorer,
        encoded: EncodedSource,
        rows: Tensor,
        emissions: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """(BN,) L_RKL, where the teacher reads the student's most probable prefixes.

        rows (BN,): which encoded sentence each row translates.
        """
        with torch.no_grad():
            tokens = emissions.argmax(dim=2)
            log_probs = teacher.distributions(encoded, rows, tokens)
        return reverse_cross_entropy(emissions, log_probs, mask)


register_sizes("nart_fertility")

"""NAT with fertilities: the decoder input repeats each source token (arXiv 1711.02281)."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Optional

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.data.fertilities import Fertilities
from fairseq_nart.generation.graph import Graph, example_targets
from fairseq_nart.generation.options import Deduplicating
from fairseq_nart.generation.system import Request
from fairseq_nart.layers import fertility
from fairseq_nart.layers.fertility import FertilityHead
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.source_map import copied
from fairseq_nart.layers.states import Decoded, EncoderStates, Proposal
from fairseq_nart.losses.finetuning import reinforce, reverse_cross_entropy
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._backbone import BackboneConfig
from fairseq_nart.models._heads import CrfDecoding, OutputConfig, WithHead
from fairseq_nart.models._registry import register_system
from fairseq_nart.options import require_default
from fairseq_nart.teacher.rescoring import EncodedSource, TeacherRescorer


@dataclass
class NartFertilityConfig(BackboneConfig, OutputConfig):
    """Options of the system with fertilities."""

    label_smoothing: float = field(
        default=0.1,
        metadata={"help": "label smoothing of the word-level loss", "at least": 0, "below": 1},
    )
    finetune_with: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of an autoregressive teacher; its distributions and rewards "
            "fine-tune a trained model, together with the data"
        },
    )
    finetune_weight: float = field(
        default=0.25,
        metadata={
            "help": "lambda, the share of the teacher's terms in the loss",
            "at least": 0,
            "at most": 1,
        },
    )


class FirstCandidate(StrEnum):
    """The fertilities of the first candidate: the most probable ones, or their rounded means."""

    argmax = "argmax"
    average = "average"


FIRST_CANDIDATE = {
    FirstCandidate.argmax: fertility.most_probable,
    FirstCandidate.average: fertility.average,
}


@dataclass
class FertilityDecoding(CrfDecoding, Deduplicating):
    """Decoding options of the system with fertilities."""

    fertility_decoding: FirstCandidate = field(
        default=FirstCandidate.argmax,
        metadata={
            "help": "fertilities of the first candidate: the most probable (argmax) or the rounded "
            "mean (average)"
        },
    )
    fertility_samples: int = field(
        default=1,
        metadata={
            "help": "number of candidates: the first one, and samples of the fertilities",
            "at least": 1,
            "candidates": "sample",
        },
    )


@dataclass(frozen=True)
class FertilityProposal(Proposal):
    """Targets whose decoder input is copies of the source tokens."""

    fertilities: Tensor
    """(B,N,S) number of copies of each source token."""


# No position attends to itself: its input is a copy of the token that it has to translate.
@register_system("nart_fertility", "NAT with fertilities", mask_self_attention_diagonal=True)
class NartFertility(WithHead):
    """Learns fertilities and tokens from an alignment, then optionally from a teacher.

    Unlike in the paper, every decoder layer attends to the last encoder layer, as in fairseq, not
    to the encoder layer of the same index, and copies do not include source positions.
    """

    Config = NartFertilityConfig
    cfg: NartFertilityConfig
    Decoding = FertilityDecoding
    runtime = "fertility"
    widest_option = "fertility_samples"
    side_inputs = (Fertilities(),)

    def __init__(self, cfg: NartFertilityConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.fertility = FertilityHead(cfg.embed_dim)
        self.add_head(cfg)

    def teacher_path(self) -> str | None:
        """The teacher's checkpoint for fine-tuning. UserError for a weight without a teacher."""
        if not self.cfg.finetune_with:
            why = "needs a teacher: give --finetune-with, or leave it out"
            require_default(self.cfg, ["finetune_weight"], why)
        return self.cfg.finetune_with

    def propose(self, states: EncoderStates, options: FertilityDecoding) -> FertilityProposal:
        """The most probable or average fertilities, then samples."""
        logits = self.fertility(states)
        proposed = FIRST_CANDIDATE[options.fertility_decoding](logits)[:, None]  # (B,1,S)
        if count := options.fertility_samples - 1:
            samples = fertility.sample(logits, states.mask, count)
            proposed = torch.cat([proposed, samples], dim=1)
        return self._proposal(states, proposed)

    def sentence_elements(self, source: int, options: FertilityDecoding) -> int:
        """Elements of the largest tensor before decoding, which may be all samples (int64)."""
        fertilities = 2 * options.fertility_samples * source
        return max(super().sentence_elements(source, options), fertilities)

    def _proposal(self, states: EncoderStates, fertilities: Tensor) -> FertilityProposal:
        """fertilities (B,N,S) with any sums -> targets of valid lengths."""
        fertilities = fertility.make_valid(fertilities, states.mask, self.longest_target)
        lengths = fertilities.sum(dim=2)
        return FertilityProposal(lengths, torch.ones_like(lengths, dtype=torch.bool), fertilities)

    def features(self, states: EncoderStates, fertilities: Tensor, mask: Tensor) -> Tensor:
        """fertilities (B,N,S), mask (BN,T) of their targets -> (BN,T,D)."""
        index = fertility.copy_index(fertilities.flatten(0, 1), mask.size(1))
        features: Tensor = self.decoder(copied(states, index), mask, states)
        return features

    def graphs(self) -> list[Graph]:
        encode, example = self.encoder_graph()
        del example["fertilities"]
        mask = example_targets()
        example |= {"source_mask": encode.example["tokens"].ne(self.pad), "mask": mask}
        return [encode, Graph("decode", self.decoded, self, {**example, "index": mask.long()})]

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """tokens (B,S) -> memory, source embeddings and logits (B,S,L) of the fertilities."""
        states = self.encode(tokens)
        return {
            "memory": self.decoder.memory(states.output),
            "embeddings": states.embeddings,
            "fertilities": self.fertility(states),
        }

    def decoded(self, mask: Tensor, index: Tensor, **encoded: Tensor) -> dict[str, Tensor]:
        """mask and `copy_index` (BN,T) of the targets -> what the head's search needs."""
        states = EncoderStates.in_graph(**encoded)
        features = self.decoder(copied(states, index), mask, states)
        return self.head.in_graph(features, self.decoding_emissions(features, mask))

    def emissions(self, states: EncoderStates, fertilities: Tensor, mask: Tensor) -> Tensor:
        """fertilities (B,N,S), mask (BN,T) of their targets -> (BN,T,V), raw logits."""
        emissions: Tensor = self.decoder.output_projection(self.features(states, fertilities, mask))
        return emissions

    def decode(self, request: Request) -> Decoded:
        lengths = request.proposal.lengths
        mask = length_mask(lengths.flatten(), int(lengths.max()))
        features = self.features(request.states, request.proposal.fertilities, mask)
        return self.head.search(features, self.decoding_emissions(features, mask), mask, request)

    def forward(self, source_tokens: Tensor, target: Tensor, fertilities: Tensor) -> list[LossTerm]:
        """source_tokens (B,S), target (B,T) right-padded -> loss terms.

        fertilities (B,S) sum to the targets' lengths and are 0 at padding.
        """
        states = self.encode(source_tokens)
        mask = target.ne(self.pad)
        features = self.features(states, fertilities[:, None], mask)
        emissions = self.decoder.output_projection(features)
        logits = self.fertility(states)
        teacher = self.teacher if self.training else None
        # The loss overwrites the emissions in its backward pass. The teacher's term does not mind:
        # its softmax saves its result, not its input.
        smoothing = self.cfg.label_smoothing
        words = self.head.loss_terms(features, emissions, target, mask, smoothing)
        gold = fertility.log_likelihood(logits, fertilities, states.mask).sum()
        share = 1.0 if teacher is None else 1.0 - self.cfg.finetune_weight
        terms = [
            *(replace(term, weight=share * term.weight) for term in words),
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
        """The terms of section 4: the teacher trains the decoder, REINFORCE the fertilities.

        logits (B,S,L) of fertilities; emissions (B,T,V) and mask (B,T) for the data's fertilities.
        """
        teacher.follow(next(self.parameters()))
        with torch.no_grad():
            encoded = teacher.encode(source_tokens, states.lengths)
            flat = logits.softmax(dim=2).flatten(0, 1)
            sample = torch.multinomial(flat, 1).view(logits.shape[:2])
            both = torch.stack([sample, fertility.average(logits)], dim=1)  # (B,2,S)
            proposal = self._proposal(states, both)
            theirs = length_mask(proposal.lengths.flatten(), int(proposal.lengths.max()))
            words = self.emissions(states, proposal.fertilities, theirs)
            rows = torch.arange(len(mask), device=mask.device)
            pairs = rows.repeat_interleave(2)
            # As in the released code, not the paper, a sample's cost is the mean over its tokens,
            # because a sum rewards short outputs. It is scaled by the reference's length.
            each = self._costs(teacher, encoded, pairs, words, theirs) / proposal.lengths.flatten()
            costs = each.view(-1, 2) * mask.sum(dim=1, keepdim=True)
        gold = self._costs(teacher, encoded, rows, emissions, mask).sum()
        likelihood = fertility.log_likelihood(logits, sample, states.mask)
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
        """(BN,) L_RKL, with the student's most probable tokens as the teacher's prefixes.

        rows (BN,): which encoded sentence each row translates.
        """
        with torch.no_grad():
            tokens = emissions.argmax(dim=2)
            log_probs = teacher.distributions(encoded, rows, tokens)
        return reverse_cross_entropy(emissions, log_probs, mask)

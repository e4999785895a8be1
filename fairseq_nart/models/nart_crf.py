"""NART-CRF: a linear-chain CRF over the outputs of NART (arXiv 1910.11555, section 3.2)."""

from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.crf import LinearChainCRF
from fairseq_nart.crf.candidates import top_candidates
from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.losses.tokens import token_cross_entropy_and_scores
from fairseq_nart.models._options import NartCrfConfig
from fairseq_nart.models._presets import register_sizes
from fairseq_nart.models.nart import Nart


@register_model("nart_crf")
class NartCrf(Nart):
    """Adds transitions between neighbouring tokens; the loss is L_CRF + 0.5 L_NAR."""

    Config = NartCrfConfig
    cfg: NartCrfConfig
    dynamic = False
    decoding_options = (*Nart.decoding_options, "crf_paths")
    widest_option = "crf_paths"

    def __init__(self, cfg: NartCrfConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.crf = LinearChainCRF(
            self.vocab_size,
            rank=cfg.crf_rank,
            candidates=cfg.crf_candidates,
            dynamic=self.dynamic,
            state_dim=cfg.embed_dim if self.dynamic else None,
        )

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        features, emissions = self.run_decoder(states, mask)
        ids = top_candidates(emissions, self.crf.candidates, include=target)
        nar, scores = token_cross_entropy_and_scores(
            emissions, target, mask, ids, self.cfg.label_smoothing, overwrite=True
        )
        states_of = self.crf_states(features)
        likelihood = self.crf.log_likelihood_among(ids, scores, target, mask, states_of).sum()
        return [
            LossTerm("crf_loss", -likelihood, mask.sum()),
            LossTerm("nar_loss", nar, mask.sum(), self.cfg.nar_loss_weight),
        ]

    def crf_states(self, features: Tensor) -> Tensor | None:
        """What the transitions look at."""
        return features if self.dynamic else None

    def row_elements(self, length: int, source: int, options: DecodingOptions) -> int:
        """As the base class says: the lattice, or what k-best search keeps and compares."""
        paths, rank = options.crf_paths, self.cfg.crf_rank
        k = min(self.crf.candidates, self.vocab_size)
        lattice = length * max(k * k, k * rank, rank * rank)
        # All scores and back-pointers (int64), and what one step compares.
        search = max(3 * length * paths * k, paths * k * k) if paths > 1 else 0
        return max(super().row_elements(length, source, options), lattice, search)

    def decode(
        self,
        states: EncoderStates,
        proposal: Proposal,
        options: DecodingOptions,
        log_probs: bool = True,
    ) -> Decoded:
        """As the base class says; several paths of a length follow one another, best first."""
        paths = options.crf_paths
        if paths == 1:
            return super().decode(states, proposal, options, log_probs)
        features, emissions, mask = self.start_decoding(states, proposal.lengths)
        if log_probs:
            found, scores, tokens = self.crf.k_best_with_log_probs(
                emissions, mask, paths, self.crf_states(features)
            )
        else:
            found, tokens = self.crf.k_best(emissions, mask, paths, self.crf_states(features))
            scores = emissions.new_zeros(tokens.shape)
        there = (found > float("-inf")).view(*proposal.valid.shape, paths)
        return Decoded(
            tokens.flatten(0, 1),
            scores.flatten(0, 1),
            mask.repeat_interleave(paths, dim=0),
            (proposal.valid[..., None] & there).flatten(1),
        )

    def decode_emissions(
        self, features: Tensor, emissions: Tensor, mask: Tensor, log_probs: bool
    ) -> tuple[Tensor, Tensor]:
        states = self.crf_states(features)
        if log_probs:
            scores, tokens = self.crf.decode_with_log_probs(emissions, mask, states)
        else:
            _, tokens = self.crf.decode(emissions, mask, states)
            scores = emissions.new_zeros(tokens.shape)
        return tokens, scores


register_sizes("nart_crf")

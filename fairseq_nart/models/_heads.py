"""Output layers (heads) of systems that know a target's length.

`--output` chooses the head: a softmax for each position, or a linear-chain CRF over all positions
(arXiv 1910.11555, section 3).
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from torch import Tensor

from fairseq_nart.crf import Lattice, LinearChainCRF
from fairseq_nart.crf import layer as crf_layer
from fairseq_nart.crf.candidates import top_candidates
from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.generation.system import Request
from fairseq_nart.layers import exporting
from fairseq_nart.layers.states import Decoded
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.losses.tokens import token_cross_entropy, token_cross_entropy_and_scores
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.options import require_default


@dataclass
class OutputConfig(FairseqDataclass):
    """Options of the output layer."""

    output: ChoiceEnum(["softmax", "crf", "dcrf"]) = field(  # type: ignore[valid-type]
        default="softmax",
        metadata={
            "help": "output layer: a softmax per position, a CRF, or a CRF whose transitions "
            "depend on the decoder's states"
        },
    )
    crf_rank: int = field(
        default=32, metadata={"help": "rank of the CRF's transition matrix", "at least": 1}
    )
    crf_candidates: int = field(
        default=64,
        metadata={"help": "K, tokens per position that the CRF considers", "at least": 1},
    )
    nar_loss_weight: float = field(
        default=0.5,
        metadata={"help": "weight of the word-level loss beside the CRF's", "at least": 0},
    )


@dataclass
class CrfDecoding(DecodingOptions):
    """Decoding options of a CRF."""

    crf_paths: int = field(
        default=1,
        metadata={
            "help": "number of best CRF paths for each length, all of them candidates",
            "at least": 1,
            "candidates": "path",
        },
    )


class Head(Protocol):
    """An output layer. Emissions are (BN,T,V) in training; in decoding they are the result of
    `NartModel.decoding_emissions`."""

    idle_options: tuple[str, ...]
    """Options of `CrfDecoding` that have no effect on it."""
    widest_option: str | None
    """The decoding option that multiplies the memory of the search."""
    is_structured: bool
    """Whether a token depends on its neighbours."""

    def loss_terms(
        self,
        features: Tensor,
        emissions: Tensor,
        target: Tensor,
        mask: Tensor,
        smoothing: float,
        hidden: Tensor | None = None,
    ) -> list[LossTerm]:
        """features (B,T,D), emissions (B,T,V), target and mask (B,T). Overwrites the emissions.

        `hidden` (B,T) are the positions to learn if the others are known; default: mask.
        """

    def search(
        self, features: Tensor, emissions: Tensor, mask: Tensor, request: Request
    ) -> Decoded:
        """Decodes from features (BN,T,D) and mask (BN,T) of the targets in `request`."""

    def in_graph(self, features: Tensor, emissions: Tensor) -> dict[str, Tensor]:
        """features (BN,T,D), emissions (BN,T,W) of an export -> what its search needs."""

    def row_elements(self, length: int, vocab_size: int, paths: int) -> int:
        """Elements of the search's largest tensor for one target of `length` positions."""

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """The parts of the search, in the form of `NartModel.timed_parts`."""


class SoftmaxHead:
    """Conditionally independent softmaxes over all positions (arXiv 1910.11555, eq. 2)."""

    idle_options = ("crf_paths",)
    widest_option = None
    is_structured = False

    def loss_terms(
        self,
        features: Tensor,
        emissions: Tensor,
        target: Tensor,
        mask: Tensor,
        smoothing: float,
        hidden: Tensor | None = None,
    ) -> list[LossTerm]:
        """The cross-entropy of each hidden token."""
        learned = mask if hidden is None else hidden
        loss = token_cross_entropy(emissions, target, learned, smoothing, overwrite=True)
        return [LossTerm("nar_loss", loss, learned.sum())]

    def search(
        self, features: Tensor, emissions: Tensor, mask: Tensor, request: Request
    ) -> Decoded:
        """The most probable token of each position."""
        return Decoded(*most_probable(emissions, mask), mask, request.proposal.valid)

    def in_graph(self, features: Tensor, emissions: Tensor) -> dict[str, Tensor]:
        """The most probable tokens (BN,T) and their log-probabilities (BN,T)."""
        log_probs, tokens = exporting.largest(emissions.log_softmax(dim=2))
        return {"best": tokens, "log_probs": log_probs}

    def row_elements(self, length: int, vocab_size: int, paths: int) -> int:
        """Returns 0: the search needs nothing beyond the emissions."""
        return 0

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """Returns no parts: the search is not timed separately."""
        return []


class CrfHead:
    """Transitions between neighbouring tokens; the loss is L_CRF + 0.5 L_NAR (section 3.2).

    Not a module: the CRF's weights belong to the model, whose names checkpoints use.
    """

    idle_options = ()
    widest_option = "crf_paths"
    is_structured = True

    def __init__(self, crf: LinearChainCRF, dynamic: bool, nar_loss_weight: float) -> None:
        self.crf = crf
        self.dynamic = dynamic
        self.nar_loss_weight = nar_loss_weight

    def states(self, features: Tensor) -> Tensor | None:
        """The states for the transitions, None if they are static."""
        return features if self.dynamic else None

    def loss_terms(
        self,
        features: Tensor,
        emissions: Tensor,
        target: Tensor,
        mask: Tensor,
        smoothing: float,
        hidden: Tensor | None = None,
    ) -> list[LossTerm]:
        """The CRF's negative log-likelihood of the reference, given its tokens that are not hidden,
        and the cross-entropy of the hidden tokens."""
        learned = mask if hidden is None else hidden
        ids = top_candidates(emissions, self.crf.candidates, include=target)
        nar, scores = token_cross_entropy_and_scores(
            emissions, target, learned, ids, smoothing, overwrite=True
        )
        if hidden is not None:  # paths through other tokens are impossible at known positions
            known = (mask & ~hidden)[..., None]
            scores = scores.masked_fill(known & (ids != target[..., None]), float("-inf"))
        lattice = self.crf.lattice_of(ids, scores, mask, self.states(features))
        likelihood = lattice.log_likelihood(lattice.path_of(target)).sum()
        return [
            LossTerm("crf_loss", -likelihood, learned.sum()),
            LossTerm("nar_loss", nar, learned.sum(), self.nar_loss_weight),
        ]

    def search(
        self, features: Tensor, emissions: Tensor, mask: Tensor, request: Request
    ) -> Decoded:
        """The best path of each target by Viterbi, or its best paths, adjacent and best first."""
        lattice = self.crf.lattice(emissions, mask, self.states(features))
        valid, paths = request.proposal.valid, request.options.crf_paths
        if paths == 1:
            _, path = lattice.best_path()
        else:
            scores, path = lattice.k_best(paths)
            exists = (scores > float("-inf")).view(*valid.shape, paths)
            valid = (valid[..., None] & exists).flatten(1)
        tokens = lattice.tokens(path)
        if request.log_probs:
            log_probs = lattice.log_probs(path)
        else:
            log_probs = lattice.emissions.new_zeros(tokens.shape)
        if paths > 1:
            tokens, log_probs = tokens.flatten(0, 1), log_probs.flatten(0, 1)
            mask = mask.repeat_interleave(paths, dim=0)
        return Decoded(tokens, log_probs, mask, valid)

    def in_graph(self, features: Tensor, emissions: Tensor) -> dict[str, Tensor]:
        """Candidates and their emissions (BN,T,K), and transitions (BN,T-1,K,K) with the candidate
        that is entered first: so Viterbi reads memory in order."""
        count = min(self.crf.candidates, self.crf.vocab_size)
        scores, ids = exporting.most(emissions, count)
        # Padding of the vocabulary has no embeddings. Its emissions of -inf are never chosen.
        ids = ids.clamp(max=self.crf.vocab_size - 1)
        leave, enter = self.crf.transitions.factors(ids, self.states(features))
        arrivals = enter @ leave.transpose(2, 3)
        return {"ids": ids, "scores": scores, "arrivals": arrivals}

    def row_elements(self, length: int, vocab_size: int, paths: int) -> int:
        """The larger of the lattice and the tensors of k-best search."""
        k, rank = min(self.crf.candidates, vocab_size), self.crf.transitions.rank
        lattice = length * max(k * k, k * rank, rank * rank)
        # All scores and back-pointers (int64), or the scores compared in one step.
        return max(lattice, 3 * length * paths * k, paths * k * k) if paths > 1 else lattice

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """Candidate selection, transitions, and Viterbi search with its log-probabilities."""
        return [
            (crf_layer, "top_candidates", "candidates"),
            (self.crf.transitions, "forward", "transitions"),
            *((Lattice, name, "viterbi") for name in ("best_path", "k_best", "log_probs")),
        ]


class WithHead(NartModel):
    """A system with a head. Its Config extends `OutputConfig` and its Decoding `CrfDecoding`; it
    calls `add_head` at the end of its `__init__`."""

    crf: LinearChainCRF | None
    head: Head

    def add_head(self, cfg: OutputConfig) -> None:
        """Builds the head, last, so that the same seed gives NART-CRF the weights of NART."""
        self.crf = _build_crf(cfg, self.vocab_size, self.cfg.embed_dim)
        self.head = SoftmaxHead()
        if self.crf is not None:
            self.head = CrfHead(self.crf, cfg.output == "dcrf", cfg.nar_loss_weight)
        self.idle_options = self.head.idle_options
        self.widest_option = self.head.widest_option or type(self).widest_option

    def row_elements(self, length: int, source: int, options: Any) -> int:
        """Elements of the largest tensor for one target, the head's search included."""
        search = self.head.row_elements(length, self.vocab_size, options.crf_paths)
        return max(super().row_elements(length, source, options), search)

    def constants(self) -> dict[str, Any]:
        """The number of candidates per position, if there is a CRF."""
        slots = {} if self.crf is None else {"crf_candidates": self.crf.candidates}
        return {**super().constants(), **slots}

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """The parts of the model, then those of the head."""
        return [*super().timed_parts(), *self.head.timed_parts()]


def _build_crf(cfg: OutputConfig, vocab_size: int, dim: int) -> LinearChainCRF | None:
    """The CRF, or None if `--output` is softmax. UserError for CRF options with a softmax."""
    if cfg.output == "softmax":
        why = "is for a CRF, but --output is softmax: type --output crf or dcrf, or leave it out"
        require_default(cfg, ("crf_rank", "crf_candidates", "nar_loss_weight"), why)
        return None
    dynamic = cfg.output == "dcrf"
    return LinearChainCRF(
        vocab_size,
        rank=cfg.crf_rank,
        candidates=cfg.crf_candidates,
        dynamic=dynamic,
        state_dim=dim if dynamic else None,
    )


def most_probable(emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable tokens (B,T) and their log-probabilities (B,T), arbitrary outside the mask
    (B,T). `emissions` are the result of `NartModel.decoding_emissions`."""
    if exporting.active():
        log_probs, tokens = exporting.largest(emissions.log_softmax(dim=2))
        return tokens, log_probs
    best, tokens = emissions.float().max(dim=-1)
    log_probs = best - emissions.float().logsumexp(dim=-1)
    if emissions.dim() == 2:
        tokens = tokens.new_zeros(mask.shape).masked_scatter(mask, tokens)
        log_probs = log_probs.new_zeros(mask.shape).masked_scatter(mask, log_probs)
    return tokens, log_probs

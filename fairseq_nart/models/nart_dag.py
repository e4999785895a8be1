"""DA-Transformer: a graph of vertices, each with a token and later vertices (arXiv 2205.07459)."""

from argparse import Namespace
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.ctc.loss import label_log_probs
from fairseq_nart.dag import glancing, search
from fairseq_nart.dag.likelihood import best_alignment, dag_loss
from fairseq_nart.dag.transitions import VertexTransitions
from fairseq_nart.errors import UserError
from fairseq_nart.generation.graph import Graph
from fairseq_nart.generation.options import PathDecoding, PathSearch
from fairseq_nart.generation.system import Request
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.splitting import StateSplitting
from fairseq_nart.layers.states import Decoded, EncoderStates, Proposal
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._backbone import BackboneConfig
from fairseq_nart.models._heads import CrfDecoding, OutputConfig, WithHead, most_probable
from fairseq_nart.models._registry import register_system


@dataclass
class NartDagConfig(BackboneConfig, OutputConfig):
    """Options of the system with a directed graph."""

    dag_vertices: int = field(
        default=4,
        metadata={
            "help": "lambda, vertices per source token: the longest output has lambda S - 1 tokens",
            "at least": 2,
        },
    )
    glancing: bool = field(
        default=False,
        metadata={
            "help": "train with some tokens of the reference as decoder input, more of them where "
            "the model is wrong"
        },
    )
    glancing_ratio: list[float] = field(
        default_factory=lambda: [0.5, 0.1],
        metadata={
            "help": "revealed tokens per wrong token at the first and at the last update; between "
            "them the ratio changes linearly"
        },
    )


@dataclass
class DagDecoding(CrfDecoding, PathDecoding):
    """Decoding options of the system with a directed graph."""


@register_system("nart_dag", "DAG")
class NartDag(WithHead):
    """Splits each encoder state into vertices, as CTC does into frames, and links the vertices.

    Vertex 0 is the start and emits nothing; the last vertex emits the EOS. With a CRF, the tokens
    of a path are not independent: see `forward`.
    """

    Config = NartDagConfig
    cfg: NartDagConfig
    Decoding = DagDecoding
    positional_attention = False
    runtime = "dag"
    widest_option = "dag_paths"

    def __init__(self, cfg: NartDagConfig, task: FairseqTask) -> None:
        """UserError for a ratio without --glancing, or outside 0 to 1."""
        super().__init__(cfg, task)
        if cfg.glancing_ratio != NartDagConfig().glancing_ratio and not cfg.glancing:
            raise UserError("--glancing-ratio needs --glancing: type both, or leave both out")
        if len(cfg.glancing_ratio) != 2 or not all(0 <= x <= 1 for x in cfg.glancing_ratio):
            found = " ".join(map(str, cfg.glancing_ratio))
            raise UserError(f"--glancing-ratio needs two numbers from 0 to 1, not {found}")
        self.split = StateSplitting(cfg.embed_dim, cfg.dag_vertices)
        self.transitions = VertexTransitions(cfg.embed_dim, cfg.attention_heads)
        self.add_head(cfg)
        self.progress = 0.0
        """The share of the training that is done."""
        self.updates = 0
        """Of the whole training."""

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """Adds the options; --glancing-ratio takes two numbers, which a dataclass cannot say."""
        super().add_args(parser)
        ratio = next(x for x in parser._actions if x.dest == "glancing_ratio")
        ratio.nargs, ratio.type = 2, float

    @classmethod
    def build_model(cls, args: Namespace, task: FairseqTask) -> "NartDag":
        """UserError for glancing in a training without a last update."""
        model = super().build_model(args, task)
        assert isinstance(model, cls)
        model.updates = getattr(args, "max_update", None) or 0
        if model.cfg.glancing and not model.updates:
            raise UserError("--glancing needs --max-update: its ratio depends on the progress")
        return model

    def set_num_updates(self, num_updates: int) -> None:
        """fairseq calls it before each update."""
        super().set_num_updates(num_updates)
        self.progress = min(1.0, num_updates / max(1, self.updates))

    def most_positions(self) -> int:
        """The vertices of the longest source, if they are more."""
        return max(super().most_positions(), self.cfg.dag_vertices * self.longest_source)

    # Training

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """source_tokens (B,S), target (B,T) right-padded -> loss terms.

        With a CRF the loss is L_CRF + 0.5 L_DAG. L_CRF is the CRF's negative log-likelihood of the
        target on the most probable path that emits it.
        """
        states = self.encode(source_tokens).right_padded()
        inputs, mask = self.split(states.output, states.mask)
        last, words = mask.sum(dim=1) - 1, target.ne(self.pad)
        lengths = words.sum(dim=1)
        ratio, forced = self.glancing_ratio(), None
        if ratio:
            path, revealed = self.glance(inputs, mask, states, target, ratio)
            tokens = glancing.at_vertices(target, path, revealed, inputs.size(1))  # (B,L)
            embedded = self.decoder.embed(tokens.clamp(min=0))
            inputs = torch.where((tokens >= 0)[..., None], embedded, inputs)
            forced = path, revealed
        features, transitions = self.link(inputs, mask, states)
        emissions = self.label_emissions(features, target)
        if forced is not None:
            emissions = glancing.force(emissions, *forced)
        loss, too_long = dag_loss(emissions, transitions, last, lengths)
        weight = 1.0 if self.crf is None else self.cfg.nar_loss_weight
        terms = [
            LossTerm("dag_loss", loss, words.sum(), weight),
            LossTerm("too_long", too_long, len(target), weight=0.0, in_nats=False),
        ]
        if self.crf is not None:
            path = best_alignment(emissions.detach(), transitions.detach(), last, lengths)
            chain = _along(features, path)
            logits = self.decoder.output_projection(chain)
            likelihood = self.crf.log_likelihood(logits, target, words, self.head.states(chain))
            fitting = likelihood.masked_fill(lengths > last, 0.0)
            terms.append(LossTerm("crf_loss", -fitting.sum(), words.sum()))
        return terms

    def link(self, inputs: Tensor, mask: Tensor, states: EncoderStates) -> tuple[Tensor, Tensor]:
        """inputs (B,L,D) of the decoder, mask (B,L), real vertices first -> features (B,L,D) and
        log-probabilities of moves (B,L,L), as in `dag.transitions`."""
        features = self.decoder(inputs, mask, states)
        positions = self.decoder.embed_positions.up_to(features)
        return features, self.transitions(features, positions, mask)

    def label_emissions(self, features: Tensor, target: Tensor) -> Tensor:
        """features (B,L,D), target (B,T) -> (B,L,T) log-probabilities of emitting each token."""
        logits = self.decoder.output_projection(features)
        no_blank = logits.new_full(logits.shape[:2], float("-inf"))
        return label_log_probs(logits, no_blank, target)[..., 1:]

    def glancing_ratio(self) -> float:
        """Revealed tokens per wrong token at this point of the training, 0 in evaluation."""
        if not (self.training and self.cfg.glancing):
            return 0.0
        start, end = self.cfg.glancing_ratio
        return start + (end - start) * self.progress

    @torch.no_grad()
    def glance(
        self, inputs: Tensor, mask: Tensor, states: EncoderStates, target: Tensor, ratio: float
    ) -> tuple[Tensor, Tensor]:
        """The target's best path (B,T), and which of its tokens to reveal (B,T)."""
        last, words = mask.sum(dim=1) - 1, target.ne(self.pad)
        lengths = words.sum(dim=1)
        devices = [inputs.device] if inputs.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # so that both passes have the same dropout
            features, transitions = self.link(inputs, mask, states)
            emissions = self.label_emissions(features, target)
            path = best_alignment(emissions, transitions, last, lengths)
            predicted = self.decoder.output_projection(_along(features, path)).argmax(dim=2)
            words &= (lengths <= last)[:, None]  # a target that does not fit has no path
            return path, glancing.reveal(predicted != target, words, ratio)

    # Decoding

    def propose(self, states: EncoderStates, options: DagDecoding) -> Proposal:
        """One target per sentence, as long as its graph."""
        vertices = self.cfg.dag_vertices * states.lengths[:, None]
        return Proposal(vertices, torch.ones_like(vertices, dtype=torch.bool))

    def row_elements(self, length: int, source: int, options: DagDecoding) -> int:
        """Elements of the largest tensor of `decode`: those of one path times the number of paths,
        or the heads' scores of all moves."""
        paths = options.dag_paths * super().row_elements(length, source, options)
        return max(paths, self.cfg.attention_heads * length**2)

    def decode(self, request: Request) -> Decoded:
        """Finds paths, then the head chooses the tokens on each.

        The log-probability of an output is that of the path plus that of the tokens, given the
        path.
        """
        states, options = request.states.right_padded(), request.options
        inputs, mask = self.split(states.output, states.mask)
        features, transitions = self.link(inputs, mask, states)
        moves, last = transitions, mask.sum(dim=1) - 1
        if options.dag_search != PathSearch.greedy:
            _, log_probs = most_probable(self.decoding_emissions(features, mask), mask)
            moves = transitions + log_probs[:, None]
        if options.dag_search == PathSearch.viterbi:
            several = options.dag_paths, options.dag_length_penalty, self.longest_target
            paths, lengths, valid = search.best_of_lengths(moves, last, *several)
        else:
            paths, lengths = (x[:, None] for x in search.best_moves(moves, last))
            valid = torch.ones_like(lengths, dtype=torch.bool)
        mask = length_mask(lengths.flatten(), paths.size(2))  # (BN,T)
        chains = _along(features, paths.flatten(1)).view(*mask.shape, -1)
        chosen = replace(request, proposal=Proposal(lengths, valid))
        decoded = self.head.search(chains, self.decoding_emissions(chains, mask), mask, chosen)
        before = nn.functional.pad(paths[..., :-1], (1, 0))
        index = (before * transitions.size(2) + paths).flatten(1)
        moved = transitions.flatten(1).gather(1, index).view(mask.shape).masked_fill(~mask, 0.0)
        moved = moved.repeat_interleave(len(decoded.tokens) // len(moved), dim=0)
        return replace(decoded, log_probs=decoded.log_probs + moved)

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """The parts of every system, the moves, the search for paths, and the head's parts."""
        names = "best_moves", "best_of_lengths"
        moves = (self.transitions, "forward", "moves")
        return [*super().timed_parts(), moves, *((search, name, "search") for name in names)]

    # Export

    def graphs(self) -> list[Graph]:
        encode, outputs = self.encoder_graph()
        if self.crf is None:
            return [encode]
        return [encode, Graph("decode", self.decoded, self, {"chains": outputs["features"]})]

    def constants(self) -> dict[str, Any]:
        return {**super().constants(), "dag_vertices": self.cfg.dag_vertices}

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """tokens (B,S) -> log-probabilities of moves (B,L,L), the best token of each vertex with
        its log-probability (B,L), and for a CRF the features (B,L,D)."""
        states = self.encode(tokens)
        states = replace(states, memory=self.decoder.memory(states.output))
        inputs, mask = self.split(states.output, states.mask)
        features, transitions = self.link(inputs, mask, states)
        best, log_probs = most_probable(self.decoding_emissions(features, mask), mask)
        outputs = {"transitions": transitions, "best": best, "log_probs": log_probs}
        return outputs if self.crf is None else {**outputs, "features": features}

    def decoded(self, chains: Tensor) -> dict[str, Tensor]:
        """chains (BN,T,D), the features along paths -> what the head's search needs."""
        return self.head.in_graph(chains, self.graph_output(chains))


def _along(features: Tensor, path: Tensor) -> Tensor:
    """features (B,L,D), path (B,T) of vertices -> (B,T,D)."""
    return features.gather(1, path[..., None].expand(-1, -1, features.size(2)))

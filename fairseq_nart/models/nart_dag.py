"""DA-Transformer: a graph of vertices, each with a token and later vertices (arXiv 2205.07459)."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.ctc.loss import label_log_probs
from fairseq_nart.dag import search
from fairseq_nart.dag.glancing import at_vertices, force
from fairseq_nart.dag.likelihood import best_alignment, dag_loss
from fairseq_nart.dag.transitions import VertexTransitions
from fairseq_nart.generation.graph import Graph
from fairseq_nart.generation.options import PathDecoding, PathSearch
from fairseq_nart.generation.system import Request
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.splitting import StateSplitting
from fairseq_nart.layers.states import Decoded, EncoderStates, Proposal
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._backbone import BackboneConfig
from fairseq_nart.models._glancing import GlancingConfig, build_glancing
from fairseq_nart.models._heads import CrfDecoding, OutputConfig, WithHead, most_probable
from fairseq_nart.models._registry import register_system


@dataclass
class NartDagConfig(BackboneConfig, OutputConfig, GlancingConfig):
    """Options of the system with a directed graph."""

    dag_vertices: int = field(
        default=4,
        metadata={
            "help": "lambda, vertices per source token: the longest output has lambda S - 1 tokens",
            "at least": 2,
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
        super().__init__(cfg, task)
        self.split = StateSplitting(cfg.embed_dim, cfg.dag_vertices)
        self.transitions = VertexTransitions(cfg.embed_dim, cfg.attention_heads)
        self.glancing = build_glancing(cfg)
        self.add_head(cfg)

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
        revealed = None
        if self.glancing.active:
            path, revealed = self.glance(inputs, mask, states, target, words)
            tokens = at_vertices(target, path, revealed, inputs.size(1))  # (B,L)
            embedded = self.decoder.embed(tokens.clamp(min=0))
            inputs = torch.where((tokens >= 0)[..., None], embedded, inputs)
        features, transitions = self.link(inputs, mask, states)
        emissions = self.label_emissions(features, target)
        if revealed is not None:
            emissions = force(emissions, path, revealed)
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

    def glance(
        self, inputs: Tensor, mask: Tensor, states: EncoderStates, target: Tensor, words: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The best path (B,T) of the target with the mask `words` (B,T), and which of its tokens to
        reveal (B,T)."""
        last, lengths = mask.sum(dim=1) - 1, words.sum(dim=1)
        with self.glancing.first_pass(inputs.device):
            features, transitions = self.link(inputs, mask, states)
            emissions = self.label_emissions(features, target)
            path = best_alignment(emissions, transitions, last, lengths)
            guess = self.decoder.output_projection(_along(features, path)).argmax(dim=2)
        fitting = words & (lengths <= last)[:, None]  # a target that is too long has no path
        return path, self.glancing.reveal(fitting & (guess != target), fitting)

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

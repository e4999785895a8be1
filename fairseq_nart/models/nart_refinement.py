"""Deterministic iterative refinement (Lee, Mansimov and Cho 2018, arXiv 1802.06901).

Where the paper gives no details, this follows its code. The initial output counts as iteration 1.
Each pass gets the hidden states of the previous one, through which gradients flow, and its argmax,
where they stop. Whether a pass reads a corrupted reference instead of the previous output is chosen
at random once per batch; it gets the hidden states in either case.
"""

import copy
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.errors import UserError
from fairseq_nart.generation.graph import Graph
from fairseq_nart.generation.options import StoppingDecoding
from fairseq_nart.generation.stopping import STOPPING_RULES
from fairseq_nart.generation.system import Request
from fairseq_nart.layers.corruption import corrupt
from fairseq_nart.layers.states import Decoded, EncoderStates
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._heads import CrfDecoding, most_probable
from fairseq_nart.models._registry import register_system
from fairseq_nart.models.nart import Nart, NartConfig
from fairseq_nart.options import require_default


@dataclass
class NartRefinementConfig(NartConfig):
    """Options of iterative refinement."""

    train_iterations: int = field(
        default=4,
        metadata={"help": "passes in training, the initial one included", "at least": 1},
    )
    denoising_probability: float = field(
        default=0.5,
        metadata={
            "help": "probability that a training pass corrects a corrupted reference instead of "
            "the previous pass's output",
            "at least": 0,
            "at most": 1,
        },
    )


@dataclass
class RefinementDecoding(CrfDecoding, StoppingDecoding):
    """Decoding options of iterative refinement."""


@register_system(
    "nart_refinement",
    "iterative refinement",
    length_predictor="classifier",
    decoder_input="hard_uniform",
)
class NartRefinement(Nart):
    """NART's decoder gives the initial output; a second decoder refines it in all later passes."""

    Config = NartRefinementConfig
    cfg: NartRefinementConfig
    Decoding = RefinementDecoding
    runtime = "refinement"

    def __init__(self, cfg: NartRefinementConfig, task: FairseqTask) -> None:
        """UserError if an option is out of range, or concerns passes that do not exist."""
        super().__init__(cfg, task)
        if cfg.glancing:
            raise UserError("--glancing has no effect on nart_refinement: leave it out")
        self.refines = cfg.train_iterations > 1
        if not self.refines:  # equal to NART: its second decoder is untrained
            why = "concerns refinement, but --train-iterations 1 trains none: leave one out"
            require_default(cfg, ["denoising_probability"], why)
            self.idle_options += ("refinement_iterations", "refinement_stop")
        # The share of corrupted words before each refinement, falling from pass to pass. (The
        # authors' code starts below 0.9: 0.63, 0.37, 0.1 for four passes.)
        self.corruption = torch.linspace(
            0.9, 0.1, cfg.train_iterations - 1, dtype=torch.float64
        ).tolist()
        self.first_word = task.target_dictionary.nspecial
        self.eos = task.target_dictionary.eos()
        # Unused weights must not require gradients: training on several GPUs would wait for them.
        self.refiner = copy.deepcopy(self.decoder).requires_grad_(self.refines)
        self.refiner.output_projection = self.decoder.output_projection

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Starts both decoders from the checkpoint's decoder if it has no second one."""
        pairs = ((f"refiner.{name}", f"decoder.{name}") for name in self.refiner.state_dict())
        return {**{new: weights[old] for new, old in pairs if old in weights}, **weights}

    def refine(
        self, states: EncoderStates, tokens: Tensor, features: Tensor, mask: Tensor
    ) -> Tensor:
        """tokens (BN,T) and features (BN,T,D) of the previous pass, mask (BN,T) -> features
        (BN,T,D) of the next."""
        refined: Tensor = self.refiner(self.refiner.embed(tokens) + features, mask, states)
        return refined

    def graphs(self) -> list[Graph]:
        encode, decode, *start = super().graphs()
        memory = decode.example.pop("refiner_memory")
        mask, source_mask = decode.example["mask"], decode.example["source_mask"]
        features = memory.new_zeros(*mask.shape, self.cfg.embed_dim)
        graphs = [encode, decode, *start]
        if self.refines:
            passed = {"tokens": mask.long(), "previous": features, "mask": mask}
            example = {"refiner_memory": memory, "source_mask": source_mask, **passed}
            graphs.append(Graph("refine", self.refined, self, example))
        if self.head.is_structured:
            graphs.append(Graph("search", self.searched, self, {"features": features}))
        return graphs

    def constants(self) -> dict[str, Any]:
        return {**super().constants(), "refines": self.refines}

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """The outputs of NART, and the keys and values of the second decoder."""
        states = self.encode(tokens)
        return {**self.outputs(states), "refiner_memory": self.refiner.memory(states.output)}

    def decoded(self, mask: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """The first pass: mask (BN,T) -> features (BN,T,D), tokens and log-probabilities (BN,T)."""
        return self._output_of(self.features_in_graph(mask, **inputs), mask)

    def refined(
        self,
        refiner_memory: Tensor,
        source_mask: Tensor,
        tokens: Tensor,
        previous: Tensor,
        mask: Tensor,
    ) -> dict[str, Tensor]:
        """A later pass: tokens (BN,T) and features (BN,T,D) of the previous one -> as `decoded`."""
        states = EncoderStates.in_graph(refiner_memory, source_mask)
        return self._output_of(self.refine(states, tokens, previous, mask), mask)

    def searched(self, features: Tensor) -> dict[str, Tensor]:
        """features (BN,T,D) of the last pass -> what the CRF's search needs."""
        return self.head.in_graph(features, self.graph_output(features))

    def _output_of(self, features: Tensor, mask: Tensor) -> dict[str, Tensor]:
        best, log_probs = most_probable(self.decoding_emissions(features, mask), mask)
        return {"features": features, "best": best, "log_probs": log_probs}

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """The cross-entropy of each pass, against the same reference."""
        passes = [self.run_decoder(states, mask)]
        for share in self.corruption:
            features, emissions = passes[-1]
            if self.training and torch.rand(()).item() < self.cfg.denoising_probability:
                words = mask & target.ne(self.eos)
                tokens = corrupt(target, words, share, self.first_word, self.vocab_size)
            else:
                tokens = emissions.argmax(dim=2)
            refined = self.refine(states, tokens, features, mask)
            passes.append((refined, self.refiner.output_projection(refined)))
        smoothing = self.cfg.label_smoothing
        *guesses, (features, emissions) = passes
        losses = (token_cross_entropy(x, target, mask, smoothing, True) for _, x in guesses)
        terms = [[LossTerm("nar_loss", loss, mask.sum())] for loss in losses]
        terms.append(self.head.loss_terms(features, emissions, target, mask, smoothing))
        return [
            replace(term, name=f"{term.name}_{number}")
            for number, pass_terms in enumerate(terms, 1)
            for term in pass_terms
        ]

    def decode(self, request: Request) -> Decoded:
        """A row that has stopped keeps its output. A CRF decodes the features of its last pass.

        A sentence is computed until all its candidates have stopped.
        """
        options, states, lengths = request.options, request.states, request.proposal.lengths
        passes = options.decoder_passes() if self.refines else 1
        rule = STOPPING_RULES[options.refinement_stop]
        features, emissions, mask = self.start_decoding(states, lengths)
        tokens, scores = most_probable(emissions, mask)
        outputs = deque([tokens], maxlen=rule.window if rule else 1)
        active = mask.any(dim=1)  # (BN,)
        iterations = active.long()
        sentences: Tensor | slice = slice(None)
        rows: Tensor | slice = slice(None)
        for _ in range(1, passes):
            if rule is not None:
                active = active & ~rule.ended(torch.stack(list(outputs), dim=1), mask)
                if not active.any():
                    break
                sentences = active.view_as(lengths).any(dim=1)
                rows = sentences.repeat_interleave(lengths.size(1))
            rows_mask = mask[rows]
            new = self.refine(states.select(sentences), tokens[rows], features[rows], rows_mask)
            best, log = most_probable(self.decoding_emissions(new, rows_mask), rows_mask)
            changes = active[rows, None]
            if self.head.is_structured:
                new = torch.where(changes[..., None], new, features[rows])
            features[rows] = new
            scores[rows] = torch.where(changes, log, scores[rows])
            tokens = tokens.clone()
            tokens[rows] = torch.where(changes, best, tokens[rows])
            outputs.append(tokens)
            iterations += active
        if not self.head.is_structured:
            return Decoded(tokens, scores, mask, request.proposal.valid, iterations)
        decoded = self.head.search(features, self.decoding_emissions(features, mask), mask, request)
        paths = len(decoded.tokens) // len(iterations)
        return replace(decoded, iterations=iterations.repeat_interleave(paths))

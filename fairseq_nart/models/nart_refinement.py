"""Deterministic iterative refinement (Lee, Mansimov and Cho 2018, arXiv 1802.06901).

Where the paper is silent, as its code: a pass is any decoder's, so that 1 iteration is the first
guess alone; gradients flow through the hidden states handed on and stop at the argmax; whether a
pass mends the reference or the previous output is drawn once for a batch, and the hidden states are
handed on in either case.
"""

import copy
from collections import deque

import torch
from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.generation.stopping import STOPPING_RULES
from fairseq_nart.layers.corruption import corrupt
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._options import NartRefinementConfig
from fairseq_nart.models._presets import register_sizes
from fairseq_nart.models.nart import Nart


@register_model("nart_refinement")
class NartRefinement(Nart):
    """NART's decoder guesses, a second one, the same in all later passes, refines."""

    Config = NartRefinementConfig
    cfg: NartRefinementConfig
    decoding_options = (*Nart.decoding_options, "refinement_iterations", "refinement_stop")

    def __init__(self, cfg: NartRefinementConfig, task: FairseqTask) -> None:
        """ValueError where a number is out of its range, or is about passes that there are not."""
        super().__init__(cfg, task)
        self.refines = cfg.train_iterations > 1
        if not self.refines and cfg.denoising_probability != self.Config.denoising_probability:
            raise ValueError(
                "--denoising-probability is about refinements, and --train-iterations 1 trains "
                "none: leave one of the two out"
            )
        if not self.refines:  # it is NART, and its second decoder has learned nothing
            self.decoding_options = Nart.decoding_options
        # The share of words that is corrupted before each refinement: later ones mend less. (The
        # code's own arithmetic starts below 0.9: 0.63, 0.37, 0.1 for four passes.)
        self.corruption = torch.linspace(
            0.9, 0.1, cfg.train_iterations - 1, dtype=torch.float64
        ).tolist()
        self.first_word = task.target_dictionary.nspecial
        self.eos = task.target_dictionary.eos()
        # Several GPUs would wait for the gradients of weights that no pass uses.
        self.refiner = copy.deepcopy(self.decoder).requires_grad_(self.refines)
        self.refiner.output_projection = self.decoder.output_projection

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A decoder is a start for both decoders, where there is no second one."""
        pairs = ((f"refiner.{name}", f"decoder.{name}") for name in self.refiner.state_dict())
        return {**{new: weights[old] for new, old in pairs if old in weights}, **weights}

    def refine(
        self, states: EncoderStates, tokens: Tensor, features: Tensor, mask: Tensor
    ) -> Tensor:
        """One pass: tokens (BN,T) and features (BN,T,D) of the one before, mask (BN,T) -> features
        (BN,T,D)."""
        refined: Tensor = self.refiner(self.refiner.embed(tokens) + features, mask, states)
        return refined

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """The cross-entropy of each pass, against the same reference."""
        passes = [self.run_decoder(states, mask)]
        for share in self.corruption:
            features, emissions = passes[-1]
            if self.training and torch.rand(()).item() < self.cfg.denoising_probability:
                words = mask & target.ne(self.eos)
                said = corrupt(target, words, share, self.first_word, self.vocab_size)
            else:
                said = emissions.argmax(dim=2)
            refined = self.refine(states, said, features, mask)
            passes.append((refined, self.refiner.output_projection(refined)))
        smoothing = self.cfg.label_smoothing
        losses = (
            token_cross_entropy(x, target, mask, smoothing, overwrite=True) for _, x in passes
        )
        return [LossTerm(f"nar_loss_{n}", loss, mask.sum()) for n, loss in enumerate(losses, 1)]

    def decode(
        self,
        states: EncoderStates,
        proposal: Proposal,
        options: DecodingOptions,
        log_probs: bool = True,
    ) -> Decoded:
        """As the base class says; a row whose refinement has ended keeps its output.

        A sentence is computed as long as one of its candidates goes on.
        """
        passes = options.decoder_passes() if self.refines else 1
        rule = STOPPING_RULES[options.refinement_stop]
        features, emissions, mask = self.start_decoding(states, proposal.lengths)
        tokens, scores = self.decode_emissions(features, emissions, mask, log_probs)
        outputs = deque([tokens], maxlen=rule.window if rule else 1)
        going = mask.any(dim=1)  # (BN,)
        iterations = going.long()
        sentences: Tensor | slice = slice(None)
        rows: Tensor | slice = slice(None)
        for _ in range(1, passes):
            if rule is not None:
                going = going & ~rule.ended(torch.stack(list(outputs), dim=1), mask)
                if not going.any():
                    break
                sentences = going.view_as(proposal.lengths).any(dim=1)
                rows = sentences.repeat_interleave(proposal.lengths.size(1))
            here = mask[rows]
            new = self.refine(states.select(sentences), tokens[rows], features[rows], here)
            emissions = self.decoding_emissions(new, here)
            more, log = self.decode_emissions(new, emissions, here, log_probs)
            features[rows] = new
            on = going[rows, None]
            scores[rows] = torch.where(on, log, scores[rows])
            tokens = tokens.clone()
            tokens[rows] = torch.where(on, more, tokens[rows])
            outputs.append(tokens)
            iterations += going
        return Decoded(tokens, scores, mask, proposal.valid, iterations)


register_sizes("nart_refinement")

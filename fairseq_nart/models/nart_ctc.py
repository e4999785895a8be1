"""CTC: each encoder state is split into frames that emit tokens or blanks (arXiv 1811.04719)."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.ctc import search as ctc_search
from fairseq_nart.ctc.alignment import best_alignment
from fairseq_nart.ctc.consistency import consistency
from fairseq_nart.ctc.loss import ctc_loss, label_log_probs, label_log_probs_and_repeats
from fairseq_nart.ctc.ngrams import bigram_loss
from fairseq_nart.generation.graph import Graph
from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.generation.system import Request
from fairseq_nart.layers import exporting
from fairseq_nart.layers.splitting import StateSplitting
from fairseq_nart.layers.states import Decoded, EncoderStates, Proposal
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._backbone import BackboneConfig, NartModel
from fairseq_nart.models._glancing import GlancingConfig, build_glancing
from fairseq_nart.models._registry import register_system


@dataclass
class NartCtcConfig(BackboneConfig, GlancingConfig):
    """Options of the CTC system."""

    ctc_split: int = field(
        default=3,
        metadata={
            "help": "k, frames per source token: the longest output has k S tokens",
            "at least": 1,
        },
    )
    ctc_loss: ChoiceEnum(["ctc", "nmla"]) = field(  # type: ignore[valid-type]
        default="ctc",
        metadata={
            "help": "ctc: likelihood of the target. nmla: F1 of its bigrams in any order, to "
            "fine-tune a trained model (arXiv 2210.03953)"
        },
    )
    consistency_weight: float = field(
        default=0.0,
        metadata={
            "help": "each sentence passes twice with different dropout; weight of the difference "
            "of both outputs (arXiv 2410.05101)",
            "at least": 0,
        },
    )


@dataclass
class CtcDecoding(DecodingOptions):
    """Decoding options of CTC."""

    ctc_beam: int = field(
        default=1,
        metadata={
            "help": "prefixes kept by CTC's beam search, all of them candidates; 1 is greedy",
            "at least": 1,
            "candidates": "beam",
        },
    )
    ctc_blank_bias: float = field(
        default=0.0,
        metadata={
            "help": "taken off the blank's logit, so that outputs get longer; `fairseq-nart tune` "
            "finds the best on the validation set",
            "tuned": [halves / 2 for halves in range(-2, 9)],
        },
    )


@register_system("nart_ctc", "CTC")
class NartCtc(NartModel):
    """The encoder-decoder variant that adds positions after splitting (section 3, variant c)."""

    Config = NartCtcConfig
    cfg: NartCtcConfig
    Decoding = CtcDecoding
    positional_attention = False
    runtime = "ctc"
    own_score = "sum"
    widest_option = "ctc_beam"

    def __init__(self, cfg: NartCtcConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.split = StateSplitting(cfg.embed_dim, cfg.ctc_split)
        self.blank = nn.Parameter(torch.randn(cfg.embed_dim) * cfg.embed_dim**-0.5)
        self.eos = task.target_dictionary.eos()
        self.forbidden = [*self.forbidden, self.eos]
        self.glancing = build_glancing(cfg)

    def most_positions(self) -> int:
        """The frames of the longest source, if they are more."""
        return max(super().most_positions(), self.cfg.ctc_split * self.longest_source)

    def frames(self, states: EncoderStates) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of tokens (B,F,V) and blank (B,F), mask (B,F), real frames first; F = kS."""
        states = states.right_padded()
        x, mask = self.split(states.output, states.mask)
        return *self.run_decoder(x, mask, states), mask

    def run_decoder(self, x: Tensor, mask: Tensor, states: EncoderStates) -> tuple[Tensor, Tensor]:
        """x (B,F,D), mask (B,F) -> logits of tokens (B,F,V) and blank (B,F)."""
        features = self.decoder(x, mask, states)
        return self.decoder.output_projection(features), features @ self.blank

    def graphs(self) -> list[Graph]:
        return [self.encoder_graph(blank_bias=torch.zeros(()))[0]]

    def further_outputs(self) -> list[Tensor]:
        return [self.blank]

    def constants(self) -> dict[str, Any]:
        return {**super().constants(), "ctc_split": self.cfg.ctc_split}

    def encoded(self, tokens: Tensor, blank_bias: Tensor) -> dict[str, Tensor]:
        """tokens (B,S), blank_bias () -> log-probabilities (B,F,W), of the vocabulary and the
        blank, and the most probable one of each frame with its log-probability, (B,F) each."""
        states = self.encode(tokens)
        states = replace(states, memory=self.decoder.memory(states.output))
        features = self.decoder(*self.split(states.output, states.mask), states)
        scores = self.graph_output(features, less=blank_bias).log_softmax(dim=2)
        log_probs, best = exporting.largest(scores)
        return {"best": best, "log_probs": log_probs, "scores": scores}

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """source_tokens (B,S), target (B,T) right-padded -> loss terms. The EOS is not a label."""
        twice = self.training and self.cfg.consistency_weight > 0
        if twice:
            source_tokens, target = source_tokens.repeat(2, 1), target.repeat(2, 1)
        share = 0.5 if twice else 1.0
        words = target.ne(self.pad) & target.ne(self.eos)
        labels, lengths = target[:, : max(1, target.size(1) - 1)], words.sum(dim=1)
        states = self.encode(source_tokens).right_padded()
        x, mask = self.split(states.output, states.mask)
        frames = mask.sum(dim=1)
        if self.glancing.active:
            x = self._glanced(x, mask, states, labels, frames, lengths)
        logits, blank = self.run_decoder(x, mask, states)
        terms = []
        if twice:  # first, because the gradient of the CTC loss overwrites the logits
            difference = consistency(logits, blank, mask)
            weight = self.cfg.consistency_weight
            terms.append(LossTerm("consistency", difference, frames.sum(), weight))
        if self.cfg.ctc_loss == "nmla":
            log_probs, repeats = label_log_probs_and_repeats(logits, blank, labels)
            loss = bigram_loss(log_probs, repeats, labels, frames, lengths)
            return [LossTerm("nmla_loss", loss, len(target), share, in_nats=False), *terms]
        log_probs = label_log_probs(logits, blank, labels)
        loss, too_long = ctc_loss(log_probs, labels, frames, lengths)
        return [
            LossTerm("ctc_loss", loss, target.ne(self.pad).sum(), share),
            LossTerm("too_long", too_long, len(target), weight=0.0, in_nats=False),
            *terms,
        ]

    def _glanced(
        self,
        x: Tensor,
        mask: Tensor,
        states: EncoderStates,
        labels: Tensor,
        frames: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        """x (B,F,D) with some frames replaced by the embeddings of what the most probable alignment
        of the target has there, blanks included (arXiv 2012.15833)."""
        with self.glancing.first_pass(x.device):
            logits, blank = self.run_decoder(x, mask, states)
            log_probs = label_log_probs(logits, blank, labels)
            path, fits = best_alignment(log_probs, labels, frames, lengths)
            tokens = labels.gather(1, (path - 1).clamp(min=0))  # (B,F)
            best, guess = logits.max(dim=2)
            right = torch.where(path == 0, blank > best, (guess == tokens) & (blank <= best))
        revealed = self.glancing.reveal(~right & mask & fits[:, None], mask, poisson=True)
        scale = math.sqrt(self.cfg.embed_dim)  # as of the decoder's embeddings
        shown = torch.where((path == 0)[..., None], scale * self.blank, self.decoder.embed(tokens))
        return torch.where(revealed[..., None], shown.to(x), x)

    def propose(self, states: EncoderStates, options: CtcDecoding) -> Proposal:
        """One target per sentence, as long as its frames."""
        frames = self.cfg.ctc_split * states.lengths[:, None]
        valid = torch.ones_like(frames, dtype=torch.bool)
        return Proposal(frames, valid)

    def row_elements(self, length: int, source: int, options: CtcDecoding) -> int:
        """Elements of the largest tensor of `decode`: the logits, or the prefixes (int64) and
        comparisons of the beam search."""
        beam, vocabulary = options.ctc_beam, self.vocab_size
        frames = length * (vocabulary + 1)
        search = max(2 * beam * length, beam**2 * min(beam, vocabulary)) if beam > 1 else 0
        return max(super().row_elements(length, source, options), frames, search)

    def decode(self, request: Request) -> Decoded:
        """The best path, or the beam's outputs with their log-probability spread over the tokens.

        The EOS gets a share, because an empty output has a probability, too.
        """
        logits, blank, mask = self.frames(request.states)
        blank = blank - request.options.ctc_blank_bias
        scores = (
            torch.cat([self.forbid(logits), blank[..., None]], dim=2).float().log_softmax(dim=2)
        )
        if request.options.ctc_beam == 1:
            tokens, lengths, log = ctc_search.best_path(scores, mask)
            valid = request.proposal.valid
        else:
            outputs = ctc_search.prefix_beam_search(scores, mask, request.options.ctc_beam)
            valid = outputs[2] > float("-inf")  # (B,W)
            tokens, lengths, total = (x.flatten(0, 1) for x in outputs)
            log = (total / (lengths + 1))[:, None].expand(-1, tokens.size(1) + 1)
        ends = lengths[:, None]
        tokens = nn.functional.pad(tokens, (0, 1)).scatter(1, ends, self.eos)
        real = torch.arange(tokens.size(1), device=tokens.device) <= ends
        return Decoded(tokens, log.masked_fill(~real, 0.0), real, valid)

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """The parts of every system, then the beam search."""
        return [*super().timed_parts(), (ctc_search, "prefix_beam_search", "search")]

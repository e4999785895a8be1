"""The base class of systems with discrete latents: autoencoder, latent predictor and decoder.

A target of T tokens is compressed to ceil(T / C) latents. From them and the source, the decoder
predicts all tokens at once. In decoding, a small autoregressive model predicts the latents,
and with them the length: the decoder fills C positions for each, and the output ends at the EOS.
"""

import functools
import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor
from torch.nn import functional as F

from fairseq_nart.errors import UserError
from fairseq_nart.generation.graph import Graph, example_targets
from fairseq_nart.generation.system import Request
from fairseq_nart.latent.autoencoder import Compressor, Decompressor, repeated
from fairseq_nart.latent.predictor import LatentPredictor
from fairseq_nart.layers import noise
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.states import Decoded, EncoderStates, Proposal
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.models._heads import most_probable
from fairseq_nart.models._latent_options import LatentConfig, LatentDecoding

logger = logging.getLogger(__name__)

REVIVE_UNTIL = 0.5
"""Share of the training during which unused codes are replaced."""

LONGEST = 2
"""An output has at most this many tokens for each source token."""


@dataclass(frozen=True)
class LatentProposal(Proposal):
    """Targets with their latents."""

    latents: Tensor
    """(B,N,M) codes; arbitrary beyond the target."""
    latent_log_probs: Tensor
    """(B,N,M) log-probability of each latent, and of the end with the last one; 0 beyond."""


class LatentModel(NartModel):
    """Subclasses call `add_latents` with their quantiser."""

    Config = LatentConfig
    cfg: LatentConfig
    Decoding = LatentDecoding
    positional_attention = False
    widest_option = "latent_samples"
    quantizer: Any
    """A `Quantizer`, which is a module."""
    commitment_weight = 0.0
    progress = 1.0
    """Share of the training that is done."""

    def __init__(self, cfg: LatentConfig, task: FairseqTask) -> None:
        """UserError for a compression that is no power of 2."""
        super().__init__(cfg, task)
        steps = cfg.compression.bit_length() - 1
        if cfg.compression != 2**steps:
            raise UserError(
                f"--compression must be a power of 2 (2, 4, 8, 16), not {cfg.compression}"
            )
        self.compressor = Compressor(cfg.embed_dim, steps, cfg.dropout)
        self.decompressor = Decompressor(cfg.embed_dim, steps, cfg.dropout)

    def add_latents(self, quantizer: Any) -> None:
        """Sets the quantiser, and the latent predictor for its codes."""
        layers = self.cfg.predictor_layers or self.cfg.decoder_layers
        self.quantizer = quantizer
        self.predictor = LatentPredictor(
            self.decoder.size, layers, quantizer.codes, first_position=self.pad + 1
        )

    def set_num_updates(self, num_updates: int) -> None:
        """Called before each update of the training. UserError if its length is unknown."""
        super().set_num_updates(num_updates)
        if not self.cfg.max_update:
            raise UserError(
                "--max-update must be given: the phases of the training are shares of it "
                "(--discrete-by, --hidden-by)"
            )
        self.progress = min(1.0, num_updates / self.cfg.max_update)
        # Later, the predictor has learned the codes.
        self.quantizer.revives = self.progress < REVIVE_UNTIL
        if num_updates % 100 == 0 and self.progress > max(0.3, self.cfg.discrete_by):
            self._warn_of_collapse(num_updates)

    def _warn_of_collapse(self, num_updates: int) -> None:
        usage = self.quantizer.usage
        perplexity = usage.perplexity().item()
        # fairseq also calls this before it has loaded the counts of a checkpoint.
        if usage.counts.any() and perplexity < math.sqrt(self.quantizer.codes) / 2:
            logger.warning(
                "the codebook has collapsed: perplexity %.1f of %d codes after %d updates, so the "
                "latents say little about the target. Lower --lr, or set --hidden-by 0 or a higher "
                "--discrete-by, so that the decoder learns to use them",
                perplexity,
                self.quantizer.codes,
                num_updates,
            )

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Starts the latent predictor from the checkpoint's decoder if it has no predictor."""
        names = [x for x in self.predictor.state_dict() if not x.startswith("output_projection.")]
        pairs = ((f"predictor.{name}", f"decoder.{name}") for name in names)
        return {**{new: weights[old] for new, old in pairs if old in weights}, **weights}

    # Training

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """source_tokens (B,S), target (B,T) right-padded -> loss terms.

        The target is padded to a multiple of C. The decoder, as in decoding, does not know which
        positions of the last latent are padding; they have no loss.
        """
        states, mask = self.encode(source_tokens), target.ne(self.pad)
        padding = (0, -target.size(1) % self.cfg.compression)
        mask, target = F.pad(mask, padding), F.pad(target, padding, value=self.pad)
        latents = mask[:, :: self.cfg.compression]  # (B,M)
        embedded = self.decoder.embed(target) * mask[..., None]
        z = self.compressor(embedded, latents)
        quantized = self.quantizer(z, latents)
        vectors, discrete = quantized.vectors, self._rising(self.cfg.discrete_by)
        if self.training:
            kept = torch.rand(len(z), 1, 1, device=z.device) < discrete
            vectors = torch.where(kept, vectors, z)
        x = self.decompressor(vectors, latents)  # (B,T,D)
        hidden = mask
        if self.training:
            share = self._rising(self.cfg.hidden_by)
            hidden = mask & (torch.rand(mask.shape, device=mask.device) < share)
            x = torch.where((mask & ~hidden)[..., None], embedded, x)
        features = self.decoder(x, repeated(latents, self.cfg.compression), states)
        emissions = self.decoder.output_projection(features)
        terms = self._measures(emissions, target, mask)
        words = token_cross_entropy(
            emissions, target, hidden, self.cfg.label_smoothing, overwrite=True
        )
        terms.append(LossTerm("nar_loss", words, hidden.sum()))
        count = latents.sum()
        if self.commitment_weight:
            # The mean over positions, as in the released code. Before the latents are discrete, it
            # would pull all of them to the same few codes.
            weight = self.commitment_weight * self.cfg.compression * discrete
            terms.append(LossTerm("commitment", quantized.commitment, count, weight, in_nats=False))
        if self.training:
            perplexity = self.quantizer.usage.perplexity() * count
            terms.append(LossTerm("codebook_perplexity", perplexity, count, 0.0, in_nats=False))
        return [*terms, self._predictor_loss(quantized.labels, latents, states)]

    def _predictor_loss(self, labels: Tensor, mask: Tensor, states: EncoderStates) -> LossTerm:
        """labels (B,M,m) and mask (B,M) of the latents -> the cross-entropy.

        It reads codes, as in decoding, so it has no gradient for the compressor, which would
        otherwise make all latents alike: nothing is easier to predict.
        """
        vectors = self.quantizer.embed(labels[..., 0]).to(self.predictor.start_vector)
        log_probs = self.predictor.logits(vectors, mask, states).float().log_softmax(dim=2)
        losses = -log_probs[:, :-1].gather(2, labels).mean(dim=2)  # (B,M)
        ends = -log_probs[..., -1].gather(1, mask.sum(dim=1, keepdim=True))
        loss = losses.masked_fill(~mask, 0.0).sum() + ends.sum()
        # The mean over positions, as that of the words.
        weight = self.cfg.latent_loss_weight * self.cfg.compression
        return LossTerm("latent_loss", loss, mask.sum() + len(mask), weight)

    def _measures(self, emissions: Tensor, target: Tensor, mask: Tensor) -> list[LossTerm]:
        """In validation, the share of the tokens that are reconstructed from their latents."""
        if self.training:
            return []
        right = (emissions.argmax(dim=2) == target) & mask
        return [LossTerm("reconstructed", right.sum(), mask.sum(), weight=0.0, in_nats=False)]

    def _rising(self, by: float) -> float:
        """A share that grows to 1 until the share `by` of the training; 1 in validation, whose
        losses are comparable."""
        return min(1.0, self.progress / by) if by and self.training else 1.0

    # Decoding

    def propose(self, states: EncoderStates, options: LatentDecoding) -> LatentProposal:
        """The most probable latents, one after the other, then samples; at least one latent."""
        predictor, count = self.predictor, options.latent_samples
        memory, end = predictor.memory(states.output), predictor.end
        most = self.most_latents(states.lengths)[:, None].expand(-1, count)  # (B,N)
        lengths = most.clone()
        latents = most.new_zeros(*most.shape, int(most.max()))
        log_probs = torch.zeros(latents.shape, device=most.device)
        going = torch.ones_like(most, dtype=torch.bool)
        chosen = torch.full_like(most, end)
        cache = memory.new_zeros(most.numel(), 0, memory.size(2))
        for step in range(latents.size(2)):
            x = self.latent_vectors(chosen.flatten())
            logits, cache = predictor.step(x, cache, memory, states.mask)
            if step == 0:
                logits[:, end] = float("-inf")
            scores = logits.float().log_softmax(dim=1).view(*most.shape, -1)
            chosen = (scores + _noise(count, step, end + 1, most.device)).argmax(dim=2)
            log = scores.gather(2, chosen[..., None]).squeeze(2)
            ended = going & (chosen == end)
            going = going & ~ended
            latents[..., step] = chosen.masked_fill(~going, 0)
            log_probs[..., step] = log.masked_fill(~going, 0.0)
            log_probs[..., step - 1] += log.masked_fill(~ended, 0.0)
            lengths = lengths.masked_fill(ended, step)
            going = going & (step + 1 < most)
            if not going.any():
                break
        valid = torch.ones_like(going)
        return LatentProposal(self.cfg.compression * lengths, valid, latents, log_probs)

    def most_latents(self, source_lengths: Tensor) -> Tensor:
        """source_lengths (B,) -> (B,) the most latents of an output."""
        tokens = (LONGEST * source_lengths).clamp(max=self.longest_target)
        return (tokens + self.cfg.compression - 1) // self.cfg.compression

    def latent_vectors(self, codes: Tensor) -> Tensor:
        """codes (BN,) -> (BN,D) for the predictor, with its start for its end."""
        vectors = self.quantizer.embed(codes.clamp(max=self.predictor.end - 1))
        start = self.predictor.start_vector
        return torch.where((codes == self.predictor.end)[..., None], start, vectors.to(start))

    def features(self, states: EncoderStates, latents: Tensor, mask: Tensor) -> Tensor:
        """latents and mask (BN,M) -> (BN,CM,D), the output of the decoder."""
        x = self.decompressor(self.quantizer.embed(latents).to(self.predictor.start_vector), mask)
        features: Tensor = self.decoder(x, repeated(mask, self.cfg.compression), states)
        return features

    def decode(self, request: Request) -> Decoded:
        """A latent's log-probability is part of that of the first of its tokens."""
        proposal, compression = request.proposal, self.cfg.compression
        lengths = proposal.lengths.flatten() // compression
        latents = length_mask(lengths, int(lengths.max()))  # (BN,M)
        width = latents.size(1)
        codes, extra = (
            x.flatten(0, 1)[:, :width] for x in (proposal.latents, proposal.latent_log_probs)
        )
        features = self.features(request.states, codes, latents)
        mask = repeated(latents, compression)
        tokens, log_probs = most_probable(self.decoding_emissions(features, mask), mask)
        log_probs[:, ::compression] += extra
        return Decoded(tokens, log_probs, mask, proposal.valid)

    def sentence_elements(self, source: int, options: LatentDecoding) -> int:
        """Elements of the largest tensor of `propose`, for all samples of a sentence."""
        longest = int(self.most_latents(torch.tensor(source)))
        cache = (longest + 1) * self.predictor.width
        row = max(self.predictor.end + 1, self.cfg.ffn_embed_dim, cache)
        return max(super().sentence_elements(source, options), options.latent_samples * row)

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """The latent predictor is timed as a part of its own."""
        parts = super().timed_parts()
        return [(x, name, "latents" if name == "propose" else part) for x, name, part in parts]

    # Export

    def graphs(self) -> list[Graph]:
        encode, example = self.encoder_graph()
        self.predictor.embed_positions.reach(self.longest_target)
        source_mask = encode.example["tokens"].ne(self.pad)
        memory, mask = example["predictor_memory"], example_targets()
        predict = {
            "predictor_memory": memory,
            "source_mask": source_mask,
            "previous": mask[:, 0].long(),
            "cache": memory.new_zeros(*mask.shape, self.predictor.width),
        }
        decode = {"memory": example["memory"], "source_mask": source_mask}
        return [
            encode,
            Graph("predict", self.predicted, self, predict),
            Graph("decode", self.decoded, self, {**decode, "latents": mask.long(), "mask": mask}),
        ]

    def constants(self) -> dict[str, Any]:
        own = {"compression": self.cfg.compression, "end": self.predictor.end, "longest": LONGEST}
        return {**super().constants(), **own, "predictor_width": self.predictor.width}

    def most_positions(self) -> int:
        """The last latent may go beyond the longest target."""
        return super().most_positions() + self.cfg.compression

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """tokens (B,S) -> the memories of the decoder and of the latent predictor."""
        output = self.encode(tokens).output
        return {
            "memory": self.decoder.memory(output),
            "predictor_memory": self.predictor.memory(output),
        }

    def predicted(
        self, predictor_memory: Tensor, source_mask: Tensor, previous: Tensor, cache: Tensor
    ) -> dict[str, Tensor]:
        """The codes before, previous (R,), and their `cache` -> logits (R,K+1) of the next one,
        and the longer cache. See `LatentPredictor.step`."""
        x = self.latent_vectors(previous)
        logits, longer = self.predictor.step(x, cache, predictor_memory, source_mask)
        return {"logits": logits, "longer": longer}

    def decoded(
        self, memory: Tensor, source_mask: Tensor, latents: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """latents and mask (R,M) -> tokens and their log-probabilities (R,CM)."""
        features = self.features(EncoderStates.in_graph(memory, source_mask), latents, mask)
        positions = repeated(mask, self.cfg.compression)
        best, log_probs = most_probable(self.decoding_emissions(features, positions), positions)
        return {"best": best, "log_probs": log_probs}


@functools.lru_cache(maxsize=2)
def _noise_table(device: torch.device) -> Tensor:
    return torch.from_numpy(noise.table()).to(device)


def _noise(count: int, step: int, classes: int, device: torch.device) -> Tensor:
    """(count,classes): 0 for the first candidate, Gumbel noise for the samples.

    A sample's noise depends only on its number and on the latent's, so a sentence has the same
    samples in every batch, and asking for more keeps the first ones.
    """
    starts = torch.from_numpy(noise.offsets(count, step, classes)).to(device)
    samples = _noise_table(device).unfold(0, classes, 1)[starts]
    samples[0] = 0.0
    return samples

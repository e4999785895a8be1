"""Mask-predict: a conditional masked language model (Ghazvininejad et al. 2019, 1904.09324).

Unlike in the paper, the length is predicted as in the other systems, not from a special token. It
includes the EOS, which is masked and predicted like any token.
"""

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.generation.graph import Graph, example_targets
from fairseq_nart.generation.options import IterativeDecoding
from fairseq_nart.generation.system import Request
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.masking import lowest, random_positions
from fairseq_nart.layers.states import Decoded, EncoderStates
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.losses.tokens import token_cross_entropy
from fairseq_nart.models._by_length import ByLengthConfig, ByLengthModel
from fairseq_nart.models._heads import most_probable
from fairseq_nart.models._registry import register_system


@register_system("nart_cmlm", "mask-predict", length_predictor="classifier")
class NartCmlm(ByLengthModel):
    """Predicts masked tokens; decoding repeatedly masks the least probable ones again."""

    Decoding = IterativeDecoding
    runtime = "mask_predict"
    positional_attention = False

    def __init__(self, cfg: ByLengthConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.masked = nn.Parameter(torch.randn(cfg.embed_dim))

    def features(
        self, states: EncoderStates, tokens: Tensor, masked: Tensor, mask: Tensor
    ) -> Tensor:
        """tokens, masked, mask (BN,T) -> (BN,T,D); tokens are hidden where `masked` is True."""
        x = torch.where(masked[..., None], self.masked, self.decoder.embed(tokens))
        features: Tensor = self.decoder(x, mask, states)
        return features

    def emissions(
        self, states: EncoderStates, tokens: Tensor, masked: Tensor, mask: Tensor
    ) -> Tensor:
        """tokens, masked, mask (BN,T) -> (BN,T,V), raw logits."""
        features = self.features(states, tokens, masked, mask)
        emissions: Tensor = self.decoder.output_projection(features)
        return emissions

    def graphs(self) -> list[Graph]:
        encode, example = self.encoder_graph()
        del example["lengths"]
        mask = example_targets()
        targets = {"tokens": mask.long(), "masked": mask, "mask": mask}
        source_mask = encode.example["tokens"].ne(self.pad)
        example |= {"source_mask": source_mask, **targets}
        return [encode, Graph("decode", self.decoded, self, example)]

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """tokens (B,S) -> memory and predicted target lengths (B,)."""
        states = self.encode(tokens)
        lengths = self.predict_lengths(states)
        return {"memory": self.decoder.memory(states.output), "lengths": lengths}

    def decoded(
        self, memory: Tensor, source_mask: Tensor, tokens: Tensor, masked: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """One pass: tokens, masked, mask (BN,T) -> tokens and their log-probabilities (BN,T)."""
        states = EncoderStates.in_graph(memory, source_mask)
        features = self.features(states, tokens, masked, mask)
        best, log_probs = most_probable(self.decoding_emissions(features, mask), mask)
        return {"best": best, "log_probs": log_probs}

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        """The cross-entropy at randomly masked positions, at least one."""
        # Validation masks the same positions in every epoch, so that its losses are comparable.
        masked = random_positions(mask, seed=None if self.training else 1)
        emissions = self.emissions(states, target, masked, mask)
        smoothing = self.cfg.label_smoothing
        loss = token_cross_entropy(emissions, target, masked, smoothing, overwrite=True)
        return [LossTerm("masked_loss", loss, masked.sum())]

    def decode(self, request: Request) -> Decoded:
        """Pass t (from 0) of I predicts floor(T (I - t) / I) tokens.

        A token's probability is the one from the pass that last predicted it.
        """
        states, lengths = request.states, request.proposal.lengths.flatten()
        passes = request.options.decoder_passes()
        masked = mask = length_mask(lengths, int(lengths.max()))
        tokens = mask.long()
        scores = torch.zeros(mask.shape, device=mask.device)
        for t in range(passes):
            if t:
                masked = lowest(scores, mask, lengths * (passes - t) // passes)
            features = self.features(states, tokens, masked, mask)
            best, log = most_probable(self.decoding_emissions(features, masked), masked)
            tokens, scores = torch.where(masked, best, tokens), torch.where(masked, log, scores)
        return Decoded(tokens, scores, mask, request.proposal.valid, passes)

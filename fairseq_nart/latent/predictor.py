"""The latent predictor: a causal Transformer over the codes of a target (arXiv 1803.03382)."""

from typing import Any

import torch
from torch import Tensor, nn

from fairseq_nart.layers import exporting
from fairseq_nart.layers.attention import keys_mask
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.layers.transformer import Decoder, TransformerSize


class LatentPredictor(Decoder):
    """p(l|x) = prod_m p(l_m | l_<m, x) over K codes and the end, number K."""

    def __init__(self, size: TransformerSize, layers: int, codes: int, first_position: int) -> None:
        super().__init__(
            size,
            layers,
            output_weight=None,
            vocab_size=codes + 1,
            first_position=first_position,
            mask_self=False,
            positional_attention=False,
            causal=True,
        )
        self.end = codes
        self.width = 2 * size.dim * layers
        """Width of the cache."""
        self.start_vector = nn.Parameter(torch.randn(size.dim))

    def logits(self, vectors: Tensor, mask: Tensor, states: EncoderStates) -> Tensor:
        """vectors (B,M,D) of the latents in mask (B,M) -> (B,M+1,K+1): each latent from those
        before it, then the end."""
        x = torch.cat([self.start_vector.expand(len(vectors), 1, -1), vectors], dim=1)
        features = self(x, torch.cat([mask[:, :1], mask], dim=1), states)
        logits: Tensor = self.output_projection(features)
        return logits

    def step(
        self, x: Tensor, cache: Tensor, memory: Tensor, source_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The vector of the last latent, or `start_vector`, x (BN,D); the keys and values of those
        before it, cache (BN,t,2LD); `memory` (B,S,2LD) of the source and its mask (B,S).

        Returns logits (BN,K+1) of the next latent and the longer cache (BN,t+1,2LD).
        """
        real = cache.new_ones(cache.size(0), cache.size(1) + 1, dtype=torch.bool)
        x = (x + self.embed_positions.up_to(real)[-1])[:, None]
        visible, visible_source = keys_mask(real), keys_mask(source_mask)
        layers: list[Any] = list(self.layers)
        parts = zip(*(torch.split(y, 2 * self.size.dim, dim=2) for y in (cache, memory)))
        longer = []
        for layer, (known, source) in zip(layers, parts, strict=True):
            x, keys = _step(layer, x, known, visible, source, visible_source)
            longer.append(keys)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return self.output_projection(x)[:, 0], torch.cat(longer, dim=2)


def _step(
    layer: Any,
    x: Tensor,
    known: Tensor,
    visible: Tensor | None,
    source: Tensor,
    visible_source: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One layer: x (BN,1,D), its keys and values so far, known (BN,t,2D), those of the source
    (B,S,2D), and what is visible of both -> x (BN,1,D) and keys and values (BN,t+1,2D)."""
    attention = layer.self_attn

    def keys_with(y: Tensor) -> Tensor:
        return torch.cat([known, torch.cat([attention.k_proj(y), attention.v_proj(y)], 2)], 1)

    def attend_to_source(y: Tensor) -> Any:
        queries = exporting.grouped(y, source)  # (B,N,D)
        return layer.encoder_attn.over(queries, source, visible_source).view_as(y)

    norm = layer.self_attn_layer_norm
    keys = keys_with(norm(x) if layer.size.normalize_before else x)
    x = layer.residual(x, norm, lambda y: attention.over(y, keys, visible))
    x = layer.residual(x, layer.encoder_attn_layer_norm, attend_to_source)
    return layer.residual(x, layer.final_layer_norm, layer.feed_forward), keys

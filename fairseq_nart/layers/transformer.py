"""Transformer encoder and non-causal decoder with fairseq's parameter names.

So the weights of a fairseq teacher load directly. Only positional attention has no counterpart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers import exporting
from fairseq_nart.layers.attention import (
    MultiheadAttention,
    PositionalAttention,
    keys_mask,
    without_cudnn,
)
from fairseq_nart.layers.dropout import dropout
from fairseq_nart.layers.positions import SinusoidalPositions
from fairseq_nart.layers.states import EncoderStates


@dataclass(frozen=True)
class TransformerSize:
    """Hyperparameters that encoder and decoder share."""

    dim: int
    ffn_dim: int
    heads: int
    dropout: float
    attention_dropout: float
    activation_dropout: float
    normalize_before: bool


class Layer(nn.Module):
    """Self-attention and feed-forward: an encoder layer, and the base of a decoder layer."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        self.size = size
        self.self_attn = MultiheadAttention(size.dim, size.heads, size.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(size.dim)
        self.fc1 = nn.Linear(size.dim, size.ffn_dim)
        self.fc2 = nn.Linear(size.ffn_dim, size.dim)
        self.final_layer_norm = nn.LayerNorm(size.dim)

    def residual(self, x: Tensor, norm: nn.LayerNorm, part: Callable[[Tensor], Tensor]) -> Tensor:
        """Adds the sub-layer `part` to x (B,T,D), normalising before or after it."""
        if self.size.normalize_before:
            return x + self.drop(part(norm(x)))
        normed: Tensor = norm(x + self.drop(part(x)))
        return normed

    def drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.size.dropout, self.training)

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = dropout(F.relu(self.fc1(x)), self.size.activation_dropout, self.training)
        out: Tensor = self.fc2(hidden)
        return out

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B,S,D), mask broadcastable to (B,heads,S,S) -> (B,S,D)."""
        x = self.residual(x, self.self_attn_layer_norm, lambda y: self.self_attn(y, y, mask))
        return self.residual(x, self.final_layer_norm, self.feed_forward)


class DecoderLayer(Layer):
    """Self-attention, optional positional attention, encoder-decoder attention, feed-forward."""

    def __init__(self, size: TransformerSize, positional: bool) -> None:
        super().__init__(size)
        self.positional_attn = None
        if positional:
            self.positional_attn = PositionalAttention(size.dim, size.heads, size.attention_dropout)
            self.positional_attn_layer_norm = nn.LayerNorm(size.dim)
        self.encoder_attn = MultiheadAttention(size.dim, size.heads, size.attention_dropout)
        self.encoder_attn_layer_norm = nn.LayerNorm(size.dim)

    def attend_to_target(
        self,
        x: Tensor,
        mask: Tensor | None,
        positions: Tensor,
        weights: Tensor | None = None,
    ) -> Tensor:
        """x (BN,T,D), mask broadcastable, positions (T,D), the `weights` of positional attention if
        they are known -> (BN,T,D), after all sub-layers before the attention to the source."""
        x = self.residual(x, self.self_attn_layer_norm, lambda y: self.self_attn(y, y, mask))
        if attend := self.positional_attn:
            norm = self.positional_attn_layer_norm
            if weights is not None:
                return self.residual(x, norm, lambda y: attend.average(y, weights))
            x = self.residual(x, norm, lambda y: attend(positions, y, mask))
        return x

    def attend_to_source(self, x: Tensor, source: Tensor, source_mask: Tensor | None) -> Tensor:
        """x (BN,T,D), source (B,S,D), mask broadcastable -> (BN,T,D), after the other sub-layers.

        The N candidates of a sentence attend to its source together, so it need not be repeated.
        In an export the source is its keys and values, (B,S,2D).
        """

        def attend(y: Tensor) -> Tensor:
            queries = exporting.grouped(y, source)
            attended: Tensor = self.encoder_attn(queries, source, source_mask)
            return attended.view_as(y)

        x = self.residual(x, self.encoder_attn_layer_norm, attend)
        return self.residual(x, self.final_layer_norm, self.feed_forward)


class Encoder(nn.Module):
    """Embeddings, positions and layers of the source side."""

    def __init__(
        self, size: TransformerSize, layers: int, embed_tokens: nn.Embedding, pad: int
    ) -> None:
        super().__init__()
        self.size = size
        self.pad = pad
        self.embed_tokens = embed_tokens
        self.embed_positions = SinusoidalPositions(size.dim, first=pad + 1)
        self.layers = nn.ModuleList(Layer(size) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(size.dim) if size.normalize_before else None

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens (...) -> (...,D), scaled embeddings without positions."""
        embeddings: Tensor = math.sqrt(self.size.dim) * self.embed_tokens(tokens)
        return embeddings

    def forward(self, tokens: Tensor) -> EncoderStates:
        """tokens (B,S), padded with `pad` on either side."""
        mask = tokens.ne(self.pad)
        embeddings = self.embed(tokens)  # (B,S,D)
        x = embeddings + self.embed_positions(mask)
        x = dropout(x, self.size.dropout, self.training)
        attention_mask = keys_mask(mask)
        with without_cudnn(x):
            for layer in self.layers:
                x = layer(x, attention_mask)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return EncoderStates(x, embeddings, mask, tokens)


def no_self_mask(mask: Tensor) -> Tensor:
    """A mask that keeps each query from attending to itself (arXiv 1711.02281, section 3.2).

    mask (B,T) -> (B,1,T,T). A single token attends to itself: an empty row has no softmax.
    """
    steps = torch.arange(mask.size(1), device=mask.device)
    other = steps != steps[:, None]  # (T,T)
    single = mask.sum(dim=1) == 1  # (B,)
    return _for_heads(mask[:, None, :] & (other | single[:, None, None]))


def causal_mask(mask: Tensor) -> Tensor:
    """mask (B,T) -> (B,1,T,T): no query attends to a later position."""
    steps = torch.arange(mask.size(1), device=mask.device)
    return _for_heads(mask[:, None, :] & (steps <= steps[:, None]))


def _for_heads(mask: Tensor) -> Tensor:
    """(B,T,T) -> (B,1,T,T), or what `exporting.attention` takes."""
    return mask.int() if exporting.active() else mask[:, None]


class Decoder(nn.Module):
    """All target positions at once; `causal` is for teachers."""

    def __init__(
        self,
        size: TransformerSize,
        layers: int,
        output_weight: nn.Parameter | None,
        vocab_size: int,
        first_position: int,
        mask_self: bool,
        positional_attention: bool = True,
        causal: bool = False,
    ) -> None:
        """output_weight (V,D) ties the output layer to embeddings; None creates a new one."""
        super().__init__()
        self.size = size
        self.attention_mask = keys_mask
        if mask_self or causal:
            self.attention_mask = causal_mask if causal else no_self_mask
        self.embed_positions = SinusoidalPositions(size.dim, first=first_position)
        self.layers = nn.ModuleList(DecoderLayer(size, positional_attention) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(size.dim) if size.normalize_before else None
        self.output_projection = nn.Linear(size.dim, vocab_size, bias=False)
        if output_weight is not None:
            self.output_projection.weight = output_weight
        else:
            nn.init.normal_(self.output_projection.weight, std=size.dim**-0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens (...) -> (...,D): rows of the output layer, scaled like source embeddings."""
        return math.sqrt(self.size.dim) * F.embedding(tokens, self.output_projection.weight)

    def memory(self, source: Tensor) -> Tensor:
        """source (B,S,D) -> the keys and values of all L layers by one product, (B,S,2LD)."""
        attentions: list[Any] = [layer.encoder_attn for layer in self.layers]
        parts = [attention.joined("kv") for attention in attentions]
        return F.linear(source, *(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def forward(self, x: Tensor, mask: Tensor, source: EncoderStates) -> Tensor:
        """x (BN,T,D), the input without positions, mask (BN,T) -> features (BN,T,D)."""
        return self.finish(self.start(x, mask), mask, source)

    def start(self, x: Tensor, mask: Tensor) -> Tensor:
        """x and mask as above -> (BN,T,D): the first layer up to its attention to the source."""
        positions = self.embed_positions.up_to(x)  # (T,D)
        x = dropout(x + positions, self.size.dropout, self.training)
        first: Any = self.layers[0]
        with without_cudnn(x):
            started: Tensor = first.attend_to_target(x, self.attention_mask(mask), positions)
        return started

    def weights(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """x and mask as above -> the weights (BN,H,T,T) of positional attention in each layer after
        the first, in an export."""
        positions = self.embed_positions.up_to(x)
        attentions: list[Any] = [layer.positional_attn for layer in self.layers[1:]]
        allowed = self.attention_mask(mask)
        return [attention.weights(positions, allowed) for attention in attentions if attention]

    def finish(
        self, x: Tensor, mask: Tensor, source: EncoderStates, weights: Tensor | None = None
    ) -> Tensor:
        """The output of `start`, and of `weights` (BN,LH,T,T) if known -> features (BN,T,D)."""
        positions = self.embed_positions.up_to(x)  # (T,D)
        attention_mask = self.attention_mask(mask)
        source_mask = keys_mask(source.mask)
        count = len(self.layers)
        sources = [source.output] * count
        if source.memory is not None:
            sources = list(torch.split(source.memory, 2 * self.size.dim, dim=2))
        known: list[Any] = [None] * (count - 1)
        if weights is not None:
            known = list(torch.split(weights, self.size.heads, dim=1))
        first: Any = self.layers[0]
        later: Any = self.layers[1:]
        with without_cudnn(x):
            x = first.attend_to_source(x, sources[0], source_mask)
            for layer, keys, some in zip(later, sources[1:], known, strict=True):
                x = layer.attend_to_target(x, attention_mask, positions, some)
                x = layer.attend_to_source(x, keys, source_mask)
        return x if self.layer_norm is None else self.layer_norm(x)

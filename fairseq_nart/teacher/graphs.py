"""The graphs of a Transformer teacher that scores candidates."""

from collections.abc import Iterator
from typing import Any

import torch
from fairseq.models.transformer import TransformerModelBase
from fairseq.modules import SinusoidalPositionalEmbedding
from torch import Tensor, nn

from fairseq_nart.errors import UserError
from fairseq_nart.generation.graph import Graph, example_source, example_targets
from fairseq_nart.layers import exporting
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.layers.transformer import Decoder, Encoder, TransformerSize


class TeacherGraphs(nn.Module):
    """A fairseq Transformer, rebuilt from our layers, which have its parameter names."""

    def __init__(self, path: str, teacher: Any, pad: int) -> None:
        """UserError names what our layers lack."""
        super().__init__()
        for what in _unsupported(teacher):
            raise UserError(f"{path} cannot be exported: {what}")
        cfg, vocabulary = teacher.cfg, len(teacher.decoder.dictionary)
        self.pad = pad
        self.encoder = Encoder(
            _size(cfg.encoder),
            len(teacher.encoder.layers),
            nn.Embedding(len(teacher.encoder.dictionary), cfg.encoder.embed_dim),
            pad,
        )
        self.decoder = Decoder(
            _size(cfg.decoder),
            len(teacher.decoder.layers),
            output_weight=None,
            vocab_size=vocabulary,
            first_position=pad + 1,
            mask_self=False,
            positional_attention=False,
            causal=True,
        )
        self.embed_tokens = nn.Embedding(vocabulary, cfg.decoder.embed_dim)
        weights = teacher.state_dict()
        for side in (self.encoder, self.decoder):
            prefix = "encoder." if side is self.encoder else "decoder."
            own = {name: weights[f"{prefix}{name}"] for name in side.state_dict()}
            side.load_state_dict(own)
            side.embed_positions.reach(max(teacher.max_positions()))
        self.embed_tokens.weight.data = weights["decoder.embed_tokens.weight"]
        self.eval()

    def graphs(self) -> list[Graph]:
        """`teacher_encode` and `teacher_score`."""
        example = {"tokens": example_source()}
        with torch.no_grad(), exporting.activated():
            encoded = self.encoded(**example)
        real = example_targets()
        (places,) = real.flatten().nonzero(as_tuple=True)
        score = {
            # One source for all candidates, or one for each.
            "memory": encoded["memory"].repeat(3, 1, 1),
            "source_mask": example["tokens"].ne(self.pad).repeat(3, 1),
            "previous": torch.full(real.shape, 4),
            "places": places,
            "targets": torch.full(places.shape, 4),
        }
        return [
            Graph("teacher_encode", self.encoded, self, example),
            Graph("teacher_score", self.scored, self, score),
        ]

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """tokens (B,S), padded on the right -> the decoder's keys and values (B,S,2LD)."""
        return {"memory": self.decoder.memory(self.encoder(tokens).output)}

    def scored(
        self,
        memory: Tensor,
        source_mask: Tensor,
        previous: Tensor,
        places: Tensor,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        """memory and source_mask (B,S,...), previous (BN,T), the tokens before each position,
        places (P,) in the flattened positions -> (P,) log-probability of `targets` (P,) there."""
        x = self.decoder.size.dim**0.5 * self.embed_tokens(previous)
        states = EncoderStates.in_graph(memory, source_mask)
        features = self.decoder(x, previous.ne(self.pad), states).flatten(0, 1)[places]
        logits = self.decoder.output_projection(features)
        return {"log_probs": logits.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]}


def _size(side: Any) -> TransformerSize:
    return TransformerSize(
        dim=side.embed_dim,
        ffn_dim=side.ffn_embed_dim,
        heads=side.attention_heads,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        normalize_before=side.normalize_before,
    )


def _unsupported(teacher: Any) -> Iterator[str]:
    if not isinstance(teacher, TransformerModelBase):
        yield f"it is a {type(teacher).__name__}, and only Transformer teachers have graphs"
        return
    cfg = teacher.cfg
    if cfg.encoder.embed_dim != cfg.decoder.embed_dim:
        yield "its encoder and decoder have different widths"
    if cfg.layernorm_embedding:
        yield "it normalises its embeddings (--layernorm-embedding)"
    if cfg.no_scale_embedding:
        yield "it does not scale its embeddings (--no-scale-embedding)"
    if str(cfg.activation_fn) != "relu":
        yield f"its activation function is {cfg.activation_fn}, not relu"
    for side in (teacher.encoder, teacher.decoder):
        if not isinstance(side.embed_positions, SinusoidalPositionalEmbedding):
            yield "its positions are not sinusoidal"
    known = ("output_projection.weight", "embed_tokens.weight", "layers.", "layer_norm.")
    for name in teacher.state_dict():
        part = name.split(".", 1)[1]
        if not part.startswith((*known, "version", "embed_positions._float")):
            yield f"it has weights that its graph would lack ({name})"

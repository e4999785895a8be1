"""The autoregressive teachers: fairseq's models in the sizes of the students.

From `cpu` on, the teachers of a size have about the same number of weights, embeddings excluded, so
that comparisons show the effect of the architecture. All use Adam with the Transformer's learning
rate and warm-up. fairseq trains ConvS2S with Nesterov momentum and a rate of 0.25 that falls when
the validation loss stalls, which takes more epochs than small budgets allow; with Adam at 3e-3, its
loss was below the Transformer's within 60 updates of the demo. LSTM and ConvS2S clip gradients,
which can explode over many time steps or 24 gated layers.
"""

from collections.abc import Callable
from typing import Any

from fairseq_nart.models._registry import Size, System, add


def _both_sides(size: Size, **options: Any) -> dict[str, Any]:
    """`options` for both encoder and decoder, and the dropout of all teachers."""
    sides = {f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in options.items()}
    return {"dropout": size.teacher_dropout, **sides}


def _transformer(size: Size) -> dict[str, Any]:
    return {
        "share_all_embeddings": True,
        **_both_sides(
            size,
            layers=size.layers,
            embed_dim=size.dim,
            ffn_embed_dim=size.ffn_dim,
            attention_heads=size.heads,
        ),
    }


def _deep(size: Size) -> dict[str, Any]:
    """Deep encoder, one decoder layer (arXiv 2006.10369): 12-1 where the Transformer is 6-6.

    Normalises before each sub-layer: with normalisation after it, eight encoder layers learned
    nothing (docs/results/other-teachers.md).
    """
    deep = {"encoder_layers": 2 * size.layers, "decoder_layers": 1}
    before = {f"{side}_normalize_before": True for side in ("encoder", "decoder")}
    return {**_transformer(size), **deep, **before}


def _lstm(size: Size) -> dict[str, Any]:
    """Half as many layers, twice as wide; base: 3 x 1024, near `lstm_luong_wmt_en_de`'s 4 x 1000.

    Its encoder is bidirectional, unlike that one's, for a stronger baseline.
    """
    return {
        "share_all_embeddings": True,
        "encoder_bidirectional": True,
        **_both_sides(size, layers=size.layers // 2, embed_dim=size.dim),
        "encoder_hidden_size": size.dim,  # in each direction
        "decoder_hidden_size": 2 * size.dim,
        "decoder_out_embed_dim": size.dim,
    }


def _conv(size: Size) -> dict[str, Any]:
    """Twice as many layers of the same width, kernel 3 as in `fconv_iwslt_de_en` (4 + 3 x 256).

    fairseq's ConvS2S cannot share source and target embeddings.
    """
    return {
        "share_input_output_embed": True,
        **_both_sides(size, layers=f"[({size.dim}, 3)] * {2 * size.layers}", embed_dim=size.dim),
        "decoder_out_embed_dim": size.dim,
    }


CRITERION = ("label_smoothed_cross_entropy", "--label-smoothing", "0.1")

Options = Callable[[Size], dict[str, Any]]


def _register(name: str, title: str, model: str, options: Options, clip_norm: str = "0.0") -> None:
    add(System(name, title, model, options, CRITERION, lambda size: size.teacher_lr, clip_norm))


_register("nart_teacher", "Transformer", "transformer", _transformer)
_register("nart_teacher_deep", "Transformer, deep and shallow", "transformer", _deep)
_register("nart_teacher_lstm", "LSTM", "lstm", _lstm, clip_norm="1.0")
_register("nart_teacher_conv", "ConvS2S", "fconv", _conv, clip_norm="1.0")

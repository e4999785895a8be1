"""The table of architectures: sizes, systems and the training settings that come with them."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fairseq.models import register_model_architecture


@dataclass(frozen=True)
class Size:
    """One size for all systems; layers and widths are the Transformer's."""

    layers: int
    dim: int
    ffn_dim: int
    heads: int
    length_predictor: str
    teacher_dropout: float
    student_lr: str
    teacher_lr: str
    warmup: int


SIZES = {
    "tiny": Size(2, 128, 256, 4, "classifier", 0.1, "3e-3", "3e-3", 100),
    "cpu": Size(4, 256, 1024, 4, "classifier", 0.3, "7e-4", "2e-3", 500),
    "small": Size(5, 256, 1024, 4, "offset", 0.3, "5e-4", "5e-4", 4000),
    "base": Size(6, 512, 2048, 8, "offset", 0.1, "5e-4", "7e-4", 8000),
}
"""The demo; the Multi30k baseline's size; the paper's IWSLT14; the paper's WMT14."""

TASK = "nart_translation"
"""The task that trains and decodes all of them."""


def _backbone(size: Size) -> dict[str, Any]:
    return {
        "encoder_layers": size.layers,
        "decoder_layers": size.layers,
        "embed_dim": size.dim,
        "ffn_embed_dim": size.ffn_dim,
        "attention_heads": size.heads,
    }


def _student(size: Size) -> dict[str, Any]:
    return {**_backbone(size), "length_predictor": size.length_predictor}


def _learned_length(size: Size) -> dict[str, Any]:
    return {**_backbone(size), "length_predictor": "classifier"}


def _refinement(size: Size) -> dict[str, Any]:
    return {**_learned_length(size), "decoder_input": "hard_uniform"}


def _fertility(size: Size) -> dict[str, Any]:
    """No position sees itself: its input is a copy of the very token it has to translate."""
    return {**_backbone(size), "mask_self_attention_diagonal": True}


def _both_sides(size: Size, **options: Any) -> dict[str, Any]:
    """A teacher's `options` of encoder and decoder, and what all teachers have."""
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

    Normalised before each part: after it, eight encoder layers learned nothing
    (docs/results/other-teachers.md).
    """
    deep = {"encoder_layers": 2 * size.layers, "decoder_layers": 1}
    before = {f"{side}_normalize_before": True for side in ("encoder", "decoder")}
    return {**_transformer(size), **deep, **before}


def _lstm(size: Size) -> dict[str, Any]:
    """Half as many layers, twice as wide; at base 3 x 1024 near `lstm_luong_wmt_en_de`'s 4 x 1000.

    Not its one-way encoder: one that reads both ways is the stronger baseline.
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

    It has no way to share the source's embeddings with the target's.
    """
    return {
        "share_input_output_embed": True,
        **_both_sides(size, layers=f"[({size.dim}, 3)] * {2 * size.layers}", embed_dim=size.dim),
        "decoder_out_embed_dim": size.dim,
    }


@dataclass(frozen=True)
class System:
    """A row of the table: what an architecture's name stands for."""

    model: str
    """Its name in fairseq's registry of models."""
    options: Callable[[Size], dict[str, Any]]
    """The model's options in a size."""
    teacher: bool = False
    clip_norm: str = "0.0"


# From `cpu` on, the teachers of a size have about as many weights, embeddings aside: a comparison
# is one of architectures. Adam with the Transformer's rate and warm-up suits them all. fairseq
# trains ConvS2S by Nesterov's momentum at 0.25, a rate that falls when valid stalls, which takes
# more epochs than small budgets have; by Adam at 3e-3 its loss was below the Transformer's within
# 60 updates of the demo. Through time and through 24 gated layers gradients can explode: clipped.
SYSTEMS = {
    "nart": System("nart", _student),
    "nart_crf": System("nart_crf", _student),
    "nart_dcrf": System("nart_dcrf", _student),
    "nart_ctc": System("nart_ctc", _backbone),
    "nart_refinement": System("nart_refinement", _refinement),
    "nart_cmlm": System("nart_cmlm", _learned_length),
    "nart_fertility": System("nart_fertility", _fertility),
    "nart_teacher": System("transformer", _transformer, teacher=True),
    "nart_teacher_deep": System("transformer", _deep, teacher=True),
    "nart_teacher_lstm": System("lstm", _lstm, teacher=True, clip_norm="1.0"),
    "nart_teacher_conv": System("fconv", _conv, teacher=True, clip_norm="1.0"),
}

_SYSTEM_SIZES: dict[str, tuple[System, Size]] = {}


def register_sizes(name: str) -> None:
    """Registers the system called `name` in every size; the plain name is base."""
    system = SYSTEMS[name]
    for size_name, size in {**SIZES, "": SIZES["base"]}.items():
        options = system.options(size)

        def fill(args: Namespace, options: dict[str, Any] = options) -> None:
            for key, value in options.items():
                if getattr(args, key, None) is None:
                    setattr(args, key, value)

        arch = f"{name}_{size_name}" if size_name else name
        register_model_architecture(system.model, arch)(fill)
        _SYSTEM_SIZES[arch] = (system, size)


def training_defaults(arch: str | None) -> dict[str, list[str]]:
    """Command-line words that an architecture brings, by the option that replaces them.

    {"--optimizer": ["--optimizer", "adam", ...], ...}; empty for an architecture not ours.
    """
    if arch not in _SYSTEM_SIZES:
        return {}
    system, size = _SYSTEM_SIZES[arch]
    label_smoothed = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
    # As words too, because fairseq's LSTM gives its flags the default False, which an architecture
    # cannot tell from the user's choice.
    on = [f"--{k.replace('_', '-')}" for k, v in system.options(size).items() if v is True]
    return {
        "--criterion": label_smoothed if system.teacher else ["--criterion", "nart"],
        "--optimizer": ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)"],
        "--lr-scheduler": ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", str(size.warmup)],
        "--lr": ["--lr", size.teacher_lr if system.teacher else size.student_lr],
        "--clip-norm": ["--clip-norm", system.clip_norm],
        **{flag: [flag] for flag in on},
    }

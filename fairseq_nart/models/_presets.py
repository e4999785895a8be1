"""The table of architectures: sizes, systems and the training settings that come with them."""

from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from fairseq.models import register_model_architecture


@dataclass(frozen=True)
class Size:
    """One size for student and teacher."""

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
    "base": Size(6, 512, 2048, 8, "offset", 0.1, "5e-4", "7e-4", 4000),
}
"""The demo; the Multi30k baseline's size; the paper's IWSLT14; the paper's WMT14."""

TASK = "nart_translation"
"""The task that trains and decodes all of them."""

TEACHER = "nart_teacher"
"""fairseq's `transformer` in our sizes."""

_SYSTEM_SIZES: dict[str, tuple[str, Size]] = {}


def _student_options(size: Size) -> dict[str, Any]:
    return {
        "encoder_layers": size.layers,
        "decoder_layers": size.layers,
        "embed_dim": size.dim,
        "ffn_embed_dim": size.ffn_dim,
        "attention_heads": size.heads,
        "length_predictor": size.length_predictor,
    }


def _teacher_options(size: Size) -> dict[str, Any]:
    options: dict[str, Any] = {"share_all_embeddings": True, "dropout": size.teacher_dropout}
    for side in ("encoder", "decoder"):
        options[f"{side}_layers"] = size.layers
        options[f"{side}_embed_dim"] = size.dim
        options[f"{side}_ffn_embed_dim"] = size.ffn_dim
        options[f"{side}_attention_heads"] = size.heads
    return options


def register_sizes(model_name: str, system: str) -> None:
    """Registers `system` in every size for the registered `model_name`; the plain name is base."""
    for name, size in {**SIZES, "": SIZES["base"]}.items():
        options = _teacher_options(size) if system == TEACHER else _student_options(size)

        def fill(args: Namespace, options: dict[str, Any] = options) -> None:
            for key, value in options.items():
                if getattr(args, key, None) is None:
                    setattr(args, key, value)

        arch = f"{system}_{name}" if name else system
        register_model_architecture(model_name, arch)(fill)
        _SYSTEM_SIZES[arch] = (system, size)


def training_defaults(arch: str | None) -> dict[str, list[str]]:
    """Command-line words that an architecture brings, by the option that replaces them.

    {"--optimizer": ["--optimizer", "adam", ...], ...}; empty for an architecture not ours.
    """
    if arch not in _SYSTEM_SIZES:
        return {}
    system, size = _SYSTEM_SIZES[arch]
    teacher = system == TEACHER
    label_smoothed = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
    return {
        "--criterion": label_smoothed if teacher else ["--criterion", "nart"],
        "--optimizer": ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)"],
        "--lr-scheduler": ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", str(size.warmup)],
        "--lr": ["--lr", size.teacher_lr if teacher else size.student_lr],
    }

"""Registers systems and teachers as architectures in every size."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from typing import Any, TypeVar

from fairseq.models import MODEL_REGISTRY, register_model, register_model_architecture

from fairseq_nart.errors import UserError
from fairseq_nart.options import typed

TASK = "nart_translation"
"""The task that trains and decodes all systems."""


@dataclass(frozen=True)
class Size:
    """The hyperparameters of one size; layers and widths are those of the Transformer."""

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
    "iwslt16": Size(5, 278, 507, 2, "offset", 0.079, "2.2e-3", "2.2e-3", 746),
    "wmt16": Size(6, 512, 512, 8, "offset", 0.1, "3.5e-4", "3.5e-4", 16000),
}
"""The sizes of the demo, of the Multi30k baseline, of Sun et al. 2019 for IWSLT14 and WMT14, and of
Gu et al. 2018 (arXiv 1711.02281) for IWSLT16 and WMT16, whose rates are the peaks of their code's
schedule, (width x warm-up)^-0.5."""


@dataclass(frozen=True)
class System:
    """A system or teacher, registered in every size."""

    name: str
    title: str
    """Its name in tables."""
    model: str
    """Its name in fairseq's registry of models."""
    options: Callable[[Size], dict[str, Any]]
    """The model's options for a size."""
    criterion: tuple[str, ...]
    """The criterion and its options, as command-line words."""
    learning_rate: Callable[[Size], str]
    clip_norm: str = "0.0"


SYSTEMS: dict[str, System] = {}
"""All registered systems and teachers by name."""

changed: list[Callable[[], None]] = []
"""Callbacks after each registration; the task's options depend on all systems."""

Model = TypeVar("Model", bound=type[Any])


def register_system(name: str, title: str, **presets: Any) -> Callable[[Model], Model]:
    """Decorator that registers a `NartModel` in every size, with `presets` as further options.

    Its attributes `Config` and `Decoding` define its training and decoding options. UserError if
    another system has a different option of the same name.
    """

    def register(model: Model) -> Model:
        names = {option.name for option in fields(model.Config)}

        def options(size: Size) -> dict[str, Any]:
            own = {
                "encoder_layers": size.layers,
                "decoder_layers": size.layers,
                "embed_dim": size.dim,
                "ffn_embed_dim": size.ffn_dim,
                "attention_heads": size.heads,
                "length_predictor": size.length_predictor,
                **presets,
            }
            return {option: value for option, value in own.items() if option in names}

        register_model(name)(model)
        add(System(name, title, name, options, ("nart",), lambda size: size.student_lr))
        decoding_fields()
        for refresh in changed:
            refresh()
        return model

    return register


_SYSTEM_SIZES: dict[str, tuple[System, Size]] = {}


def add(system: System) -> None:
    """Registers `system` in every size; its plain name means base."""
    SYSTEMS[system.name] = system
    for size_name, size in {**SIZES, "": SIZES["base"]}.items():
        options = system.options(size)

        def fill(args: Namespace, options: dict[str, Any] = options) -> None:
            for key, value in options.items():
                if getattr(args, key, None) is None:
                    setattr(args, key, value)

        arch = f"{system.name}_{size_name}" if size_name else system.name
        _SYSTEM_SIZES[arch] = (system, size)
        register_model_architecture(system.model, arch)(fill)


def decoding_fields() -> dict[str, Field[Any]]:
    """The decoding options of all systems by name.

    UserError if two systems have different options of the same name.
    """
    result: dict[str, Field[Any]] = {}
    owners: dict[str, str] = {}
    for name, kind in decoding_kinds().items():
        for option in fields(kind):
            known = result.setdefault(option.name, option)
            owner = owners.setdefault(option.name, name)
            same = ("type", "default", "metadata")
            if any(getattr(known, part) != getattr(option, part) for part in same):
                raise UserError(
                    f"{name} and {owner} have different decoding options of the same name, "
                    f"{option.name}: rename one, or share a base class"
                )
    return result


def decoding_kinds() -> dict[str, type[Any]]:
    """The class of decoding options of each system. Teachers have none."""
    models = {name: MODEL_REGISTRY[SYSTEMS[name].model] for name in sorted(SYSTEMS)}
    return {name: model.Decoding for name, model in models.items() if hasattr(model, "Decoding")}


def training_defaults(arch: str | None) -> dict[str, list[str]]:
    """The default command-line words of an architecture, by the option that replaces them.

    {"--optimizer": ["--optimizer", "adam", ...], ...}; empty for an architecture of fairseq.
    """
    if arch not in _SYSTEM_SIZES:
        return {}
    system, size = _SYSTEM_SIZES[arch]
    return {
        "--criterion": ["--criterion", *system.criterion],
        "--optimizer": ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)"],
        "--lr-scheduler": ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", str(size.warmup)],
        "--lr": ["--lr", system.learning_rate(size)],
        "--clip-norm": ["--clip-norm", system.clip_norm],
        **{flag: [flag] for flag in flags(arch)},
    }


def system_of(arch: str) -> System | None:
    """The system of an architecture; None for an architecture of fairseq."""
    return _SYSTEM_SIZES[arch][0] if arch in _SYSTEM_SIZES else None


def flags(arch: str | None) -> list[str]:
    """The flags that an architecture switches on, as typed on the command line.

    They must be command-line words, because fairseq's LSTM gives its flags the default False, and
    an architecture cannot distinguish that from the user's choice.
    """
    if arch not in _SYSTEM_SIZES:
        return []
    system, size = _SYSTEM_SIZES[arch]
    return [typed(name) for name, value in system.options(size).items() if value is True]

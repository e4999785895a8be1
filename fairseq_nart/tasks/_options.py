"""The task's options: fairseq's, those of rescoring, and the decoding options of all systems."""

import logging
from dataclasses import Field, dataclass, field, fields, make_dataclass
from typing import Any, Optional

from fairseq.data import Dictionary
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from fairseq.tasks.translation import TranslationConfig
from hydra.core.config_store import ConfigStore

from fairseq_nart.criterions.nart import CRITERION
from fairseq_nart.errors import UserError
from fairseq_nart.generation.normalization import DEFAULT_ALPHA, alpha_of
from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.models import _registry
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.options import require_in_range, typed
from fairseq_nart.subwords import subword_scheme

logger = logging.getLogger(__name__)

OLD_DEFAULT = "gnmt"
"""The rule of ranking that checkpoints of 0.1.0 store, with a teacher or without."""


@dataclass
class RescoringConfig(FairseqDataclass):
    """Decoding options of all systems."""

    rescore_with: Optional[str] = field(
        default=None,
        metadata={"help": "checkpoint of an autoregressive teacher that ranks the candidates"},
    )
    rescore_normalization: ChoiceEnum(list(DEFAULT_ALPHA)) = field(  # type: ignore[valid-type]
        default="reward",
        metadata={
            "help": "teacher score: sum / ((5+L)/6)^alpha, sum / L, the sum of log-probabilities, "
            "or sum + alpha L"
        },
    )
    rescore_alpha: Optional[float] = field(
        default=None,
        metadata={
            "help": "alpha of gnmt (default 0.6) or reward (default 2); `fairseq-nart tune` finds "
            "the best value on the validation set"
        },
    )


def decoding_config() -> type[FairseqDataclass]:
    """`RescoringConfig` with the decoding options of all registered systems."""
    options = _registry.decoding_fields()
    own = [
        (name, x.type, field(default=x.default, metadata=x.metadata)) for name, x in options.items()
    ]
    return make_dataclass("DecodingConfig", own, bases=(RescoringConfig,))


def task_config() -> type[FairseqDataclass]:
    """The task's dataclass: fairseq's translation options and `decoding_config`."""
    bases = (decoding_config(), TranslationConfig)
    return make_dataclass("NartTranslationConfig", [], bases=bases)


def register_options() -> None:
    """Registers the options of a system that was added after the task with fairseq."""
    if _registry.TASK in TASK_DATACLASS_REGISTRY:
        config = task_config()
        TASK_DATACLASS_REGISTRY[_registry.TASK] = config
        node: Any = config()
        node._name = _registry.TASK
        store = ConfigStore.instance()
        store.store(name=_registry.TASK, group="task", node=node, provider="fairseq")


_registry.changed.append(register_options)


def complete(cfg: Any, target: Dictionary) -> None:
    """Sets options of the task that the user left out."""
    cfg.upsample_primary = max(1, cfg.upsample_primary)  # fairseq's default, -1, means 1
    if cfg.eval_bleu and cfg.eval_bleu_remove_bpe is None:
        cfg.eval_bleu_remove_bpe = subword_scheme(target.symbols)


def share_embeddings(cfg: Any, one_dictionary: bool) -> None:
    """Sets a model's option to share all embeddings to False if there are two dictionaries."""
    if getattr(cfg, "share_all_embeddings", False) and not one_dictionary:
        logger.info("two dictionaries: embeddings of source and target are not shared")
        cfg.share_all_embeddings = False


def require_fitting(criterion: str, parallel: bool) -> None:
    """UserError if the criterion does not fit the model, which may be non-autoregressive."""
    if parallel and criterion != CRITERION:
        raise UserError(
            f"--criterion {criterion} cannot train a non-autoregressive model: type --criterion "
            f"{CRITERION}, or leave --criterion out"
        )
    if not parallel and criterion == CRITERION:
        raise UserError(
            f"--criterion {CRITERION} trains non-autoregressive models only: type --criterion "
            "label_smoothed_cross_entropy --label-smoothing 0.1 for an autoregressive one"
        )


def check(cfg: Any) -> None:
    """UserError if decoding options are invalid or cannot be combined."""
    require_in_range(cfg, RescoringConfig)
    for kind in _registry.decoding_kinds().values():
        _built(kind, cfg)
    alpha(cfg)
    default = RescoringConfig.rescore_normalization
    unused = {"rescore_normalization": (default, OLD_DEFAULT), "rescore_alpha": (None,)}
    for name, harmless in () if cfg.rescore_with else unused.items():
        if getattr(cfg, name) not in harmless:
            raise UserError(f"{typed(name)} needs a teacher: give --rescore-with, or leave it out")
    if cfg.left_pad_target:
        raise UserError("targets are padded on the right: leave --left-pad-target out")


def alpha(cfg: Any) -> float:
    """The alpha of the teacher's normalization rule."""
    return alpha_of(str(cfg.rescore_normalization), cfg.rescore_alpha)


def decoding_of(cfg: Any, model: Any) -> DecodingOptions:
    """The decoding options of `model` with their values in `cfg`. UserError for any other option.

    An autoregressive model has none.
    """
    parallel = isinstance(model, NartModel)
    kind = model.Decoding if parallel else DecodingOptions
    own = {option.name for option in fields(kind)}
    used = own - set(model.idle_options) if parallel else own
    name = type(model).__name__ if parallel else "an autoregressive model"
    for option in _registry.decoding_fields().values():
        if option.name not in used and _value(cfg, option) != option.default:
            raise UserError(f"{typed(option.name)} has no effect on {name}: leave it out")
    return _built(kind, cfg)


def _built(kind: type[DecodingOptions], cfg: Any) -> DecodingOptions:
    return kind(**{option.name: _value(cfg, option) for option in fields(kind)})


def _value(cfg: Any, option: Field[Any]) -> Any:
    """The value of `option` in `cfg`; its default if `cfg` was made before its system existed."""
    return getattr(cfg, option.name, option.default)

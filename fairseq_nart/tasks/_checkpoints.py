"""What the task stores in checkpoints, and what it requires of those that it loads."""

from typing import Any

from fairseq import models

from fairseq_nart import __version__
from fairseq_nart.data import dictionaries
from fairseq_nart.errors import UserError


def state(task: Any) -> dict[str, Any]:
    """Our version, the languages and the dictionaries' symbols."""
    sides = dictionaries.sides(task)
    symbols = {side: dictionary.symbols for side, (_, dictionary) in sides.items()}
    languages = [language for language, _ in sides.values()]
    return {"version": __version__, "symbols": symbols, "languages": languages}


def without_ours(task: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
    """The rest of a stored state. DictionaryError if its symbols differ from the data directory's;
    UserError if its version has another first digit than ours."""
    theirs = str(state_dict.get("version", "0.2.0"))  # releases until then stored none
    if theirs.split(".")[0] != __version__.split(".")[0]:
        raise UserError(
            f"the checkpoint was written by fairseq_nart {theirs}; {__version__} cannot load "
            "it, because the first digit differs: install the version that wrote it"
        )
    for side, (_, dictionary) in dictionaries.sides(task).items():
        symbols = state_dict.get("symbols", {}).get(side, dictionary.symbols)
        dictionaries.require_equal("the checkpoint", side, symbols, dictionary.symbols)
    ours = ("version", "symbols", "languages")
    return {name: value for name, value in state_dict.items() if name not in ours}


def require_known(cfg: Any) -> None:
    """UserError if the model of a checkpoint is a system that does not exist here."""
    arch = getattr(cfg, "_name", None) or getattr(cfg, "arch", None)
    if arch not in {**models.ARCH_MODEL_REGISTRY, **models.MODEL_REGISTRY}:
        raise UserError(
            f"the checkpoint holds {arch}, which fairseq_nart {__version__} does not have: "
            "install the version that wrote it, or name the system's package (--user-dir)"
        )

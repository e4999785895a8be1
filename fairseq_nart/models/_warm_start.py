"""Starts a student from the weights of a teacher or of a simpler student."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from fairseq import checkpoint_utils
from torch import Tensor

from fairseq_nart.compat.checkpoints import options_of
from fairseq_nart.data import dictionaries
from fairseq_nart.errors import UserError
from fairseq_nart.models._backbone import NartModel

logger = logging.getLogger(__name__)

NOT_WEIGHTS = ("version", "_float_tensor")
"""Last parts of the names of fairseq's buffers that are not needed."""

IN_BOTH = ("encoder.", "decoder.embed_positions.", "decoder.layer_norm.", "decoder.layernorm")
"""Prefixes of weights that both models must have or lack."""


def init_from(model: NartModel, path: str, task: Any) -> None:
    """Starts a new student of `task` from the checkpoint at `path` and logs what was loaded.

    UserError as for `warm_start`, and if the number of attention heads differs; DictionaryError for
    other dictionaries.
    """
    state = checkpoint_utils.load_checkpoint_to_cpu(path)
    dictionaries.require_agreement(path, state, task)
    require_same_heads(model, options_of(state).model, path)
    logger.info(warm_start(model, state["model"], path))


def warm_start(model: NartModel, weights: dict[str, Tensor], path: str) -> str:
    """Copies to `model` all `weights` (of the checkpoint `path`) whose names it has.

    If one has more layers, the other's layers correspond to its first ones. Returns a message: what
    was loaded, what is new in the model and what was unused. UserError if no weight fits, a shape
    differs, the checkpoint is no Transformer, only one model has some encoder part, or weights that
    are tied in `model` differ in the checkpoint.
    """
    own = model.state_dict()
    named = model.renamed(weights)
    theirs = {k: v for k, v in named.items() if k.rpartition(".")[2] not in NOT_WEIGHTS}
    shared = own.keys() & theirs.keys()
    wrong = sorted(name for name in shared if own[name].shape != theirs[name].shape)
    if wrong:
        name = wrong[0]
        raise UserError(
            f"--init-from {path}: {len(wrong)} weights have another shape, first {name} with "
            f"{tuple(theirs[name].shape)} there and {tuple(own[name].shape)} here: choose the "
            "architecture of the same size"
        )
    if not any(own[name].dim() for name in shared):  # a length offset does not count
        raise UserError(f"--init-from {path}: no weight of it has a place in this model")
    if 0 in (their_layers := _layers(theirs)).values():
        raise UserError(
            f"--init-from {path}: it is not a Transformer, because a side has no self-attention: "
            "choose a Transformer or a student"
        )
    parts = _folded(own)
    if alone := sorted(n for n in parts ^ _folded(theirs) if n.startswith(IN_BOTH)):
        where = "here" if alone[0] in parts else "there"
        raise UserError(
            f"--init-from {path}: {alone[0]} exists only {where}, so the layers would get other "
            "inputs than in training: choose a Transformer with sinusoidal positions that "
            "normalizes as this model does (--normalize-before)"
        )
    if twins := _unequal_twins(own, theirs, sorted(shared)):
        raise UserError(
            f"--init-from {path}: {' and '.join(twins)} differ there and are one tensor here, "
            "because both sides share a dictionary: train the teacher with --share-all-embeddings"
        )
    with torch.no_grad():
        for name in shared:
            own[name].copy_(theirs[name])
    depths = "".join(
        f"; {there} {side} layers there, {here} here"
        for (side, there), here in zip(their_layers.items(), _layers(own).values())
        if there != here
    )
    return (
        f"initialised {len(shared)} of {len(own)} tensors from {path}; "
        f"new here: {_groups(own.keys() - shared)}; "
        f"unused there: {_groups(theirs.keys() - shared)}{depths}"
    )


def require_same_heads(model: NartModel, theirs: Any, path: str) -> None:
    """UserError if the checkpoint at `path`, of a model with the options `theirs`, has another
    number of attention heads, which the shapes of weights do not show."""
    names = ("encoder_attention_heads", "attention_heads")  # fairseq's Transformer's, and ours
    heads = next((getattr(theirs, name) for name in names if hasattr(theirs, name)), None)
    if heads not in (None, model.cfg.attention_heads):
        raise UserError(
            f"--init-from {path}: {heads} attention heads there, {model.cfg.attention_heads} here: "
            f"type --attention-heads {heads}"
        )


def _unequal_twins(
    own: dict[str, Tensor], theirs: dict[str, Tensor], shared: list[str]
) -> tuple[str, str] | None:
    """Two names of one tensor in `own` that have different values in `theirs`, or None."""
    first: dict[int, str] = {}
    for name in shared:
        twin = first.setdefault(own[name].data_ptr(), name)
        if twin != name and not torch.equal(theirs[twin], theirs[name]):
            return twin, name
    return None


def _layers(weights: dict[str, Tensor]) -> dict[str, int]:
    """Layers with self-attention of each side. LSTM and ConvS2S have none, even if some names equal
    ours."""
    sides = [name.split(".")[0] for name in weights if name.endswith(".self_attn.q_proj.weight")]
    return {side: sides.count(side) for side in ("encoder", "decoder")}


def _folded(names: Iterable[str]) -> set[str]:
    """The names with numbers as *."""
    return {".".join("*" if part.isdigit() else part for part in n.split(".")) for n in names}


def _groups(names: set[str]) -> str:
    """Lists names without last parts and with numbers as *, to keep the message short."""
    return ", ".join(sorted({n.rpartition(".")[0] or n for n in _folded(names)})) or "nothing"

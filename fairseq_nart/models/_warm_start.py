"""Starting a student from the weights of a teacher or of a simpler student."""

from typing import Any

import torch
from torch import Tensor

from fairseq_nart.models._backbone import NartModel

NOT_WEIGHTS = ("version", "_float_tensor")
"""Last parts of the names of fairseq's buffers that mean nothing to us."""

IN_BOTH = ("encoder.", "decoder.embed_positions.", "decoder.layer_norm.", "decoder.layernorm")
"""First parts of the names of weights that none has alone."""


def warm_start(model: NartModel, weights: dict[str, Tensor], path: str) -> str:
    """Copies every weight of `weights` (from the checkpoint `path`) that `model` has a place for.

    Returns a report of what was loaded, what is new in the model and what was left over. ValueError
    where a shared name has another shape, where one has more layers than the other or parts of an
    encoder that the other lacks, where nothing fits or where what is tied here is not there: then
    the sizes or systems differ.
    """
    own = model.state_dict()
    named = model.renamed(weights)
    theirs = {k: v for k, v in named.items() if k.rpartition(".")[2] not in NOT_WEIGHTS}
    shared = own.keys() & theirs.keys()
    wrong = sorted(name for name in shared if own[name].shape != theirs[name].shape)
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"--init-from {path}: {len(wrong)} weights have another shape, first {name} with "
            f"{tuple(theirs[name].shape)} there and {tuple(own[name].shape)} here: choose the "
            "architecture of the same size"
        )
    if not any(own[name].dim() for name in shared):  # a length offset alone is no start
        raise ValueError(f"--init-from {path}: no weight of it has a place in this model")
    if (there := _layers(theirs)) != (here := _layers(own)):
        raise ValueError(
            f"--init-from {path}: {there} there, {here} here, and a part of a stack is no start: "
            "choose a Transformer with as many"
        )
    if alone := sorted(name for name in own.keys() ^ theirs.keys() if name.startswith(IN_BOTH)):
        where = "here" if alone[0] in own else "there"
        raise ValueError(
            f"--init-from {path}: {alone[0]} is {where} alone, so that layers would read what they "
            "have not learned to: choose a Transformer with sinusoidal positions that normalizes "
            "as this model does (--normalize-before)"
        )
    if twins := _unequal_twins(own, theirs, sorted(shared)):
        raise ValueError(
            f"--init-from {path}: {' and '.join(twins)} differ there and are one tensor here, as "
            "both sides share a dictionary: train the teacher with --share-all-embeddings"
        )
    with torch.no_grad():
        for name in shared:
            own[name].copy_(theirs[name])
    return (
        f"initialised {len(shared)} of {len(own)} tensors from {path}; "
        f"new here: {_groups(own.keys() - shared)}; "
        f"left over there: {_groups(theirs.keys() - shared)}"
    )


def require_as_many_heads(model: NartModel, theirs: Any, path: str) -> None:
    """ValueError where the checkpoint at `path`, of a model with the options `theirs`, has another
    number of attention heads: the shapes of weights do not say so."""
    names = ("encoder_attention_heads", "attention_heads")  # fairseq's Transformer's, and ours
    there = next((getattr(theirs, name) for name in names if hasattr(theirs, name)), None)
    if there not in (None, model.cfg.attention_heads):
        raise ValueError(
            f"--init-from {path}: {there} attention heads there, {model.cfg.attention_heads} here: "
            f"type --attention-heads {there}"
        )


def _unequal_twins(
    own: dict[str, Tensor], theirs: dict[str, Tensor], shared: list[str]
) -> tuple[str, str] | None:
    """Two names of one tensor of ours that theirs has two tensors for."""
    first: dict[int, str] = {}
    for name in shared:
        twin = first.setdefault(own[name].data_ptr(), name)
        if twin != name and not torch.equal(theirs[twin], theirs[name]):
            return twin, name
    return None


def _layers(weights: dict[str, Tensor]) -> str:
    """In words; an LSTM and a ConvS2S have none, though names of theirs may agree with ours."""
    found = [name.split(".")[0] for name in weights if name.endswith(".self_attn.q_proj.weight")]
    encoder, decoder = found.count("encoder"), found.count("decoder")
    return f"{encoder} encoder and {decoder} decoder layers with self-attention"


def _groups(names: set[str]) -> str:
    """Names with their numbers and last parts folded, so that a report stays a line or two."""
    folded = {
        ".".join("*" if part.isdigit() else part for part in name.split(".")[:-1]) or name
        for name in names
    }
    return ", ".join(sorted(folded)) or "nothing"

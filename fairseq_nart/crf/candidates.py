"""Which K tokens compete at a position (https://arxiv.org/abs/1910.11555, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def top_candidates(emissions: Tensor, k: int, include: Tensor | None = None) -> Tensor:
    """The ids of the ``k`` largest emissions at each position, largest first.

    A plain ``topk``: selection in two stages (maxima of chunks, then their elements) is exact too,
    but was only about 1.4 times as fast on a CPU.

    Args:
        emissions: (B, T, V); neither copied nor differentiated.
        k: number of candidates; at most V are returned.
        include: (B, T) ids that must be among the candidates, such as the reference in training;
            a missing one replaces the weakest candidate.

    Returns:
        (B, T, min(k, V)) distinct ids.

    Raises:
        ValueError: ``k`` < 1, a wrong shape, type or device, or (on the CPU) an id outside the
            vocabulary.
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, found {k}")
    if emissions.dim() != 3:
        raise ValueError(f"emissions: expected shape (B, T, V), found {tuple(emissions.shape)}")
    # (B, T, K)
    ids = emissions.detach().topk(min(k, emissions.shape[2]), dim=2).indices
    if include is None:
        return ids
    _check_include(include, emissions)
    # (B, T, 1)
    required = include.unsqueeze(2)
    present = (ids == required).any(dim=2, keepdim=True)
    weakest = torch.where(present, ids[:, :, -1:], required)
    return torch.cat([ids[:, :, :-1], weakest], dim=2)


def _check_include(include: Tensor, emissions: Tensor) -> None:
    if include.shape != emissions.shape[:2]:
        raise ValueError(
            f"include: expected shape {tuple(emissions.shape[:2])}, found {tuple(include.shape)}"
        )
    if include.dtype != torch.int64:
        raise ValueError(f"include: expected torch.int64, found {include.dtype}")
    if include.device != emissions.device:
        raise ValueError(f"include: expected on {emissions.device}, found {include.device}")
    # on other devices, reading the values would block; the gather that follows asserts this there
    if include.device.type == "cpu" and ((include < 0) | (include >= emissions.shape[2])).any():
        raise ValueError(f"include: expected ids in 0..{emissions.shape[2] - 1}")

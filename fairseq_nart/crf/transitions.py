"""Low-rank transition scores between neighbouring candidates, static or dynamic.

Source: https://arxiv.org/abs/1910.11555, section 3.2 (M = E1 E2^T) and section 3.3
(M^i = E1 D^i E2^T). The V x V matrix is never formed, only the K x K block of each position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LowRankTransitions(nn.Module):
    """t(u, v) = E1[u] . E2[v], the same at every position.

    E1 (``source``) embeds the token a transition leaves, E2 (``target``) the one it enters. E1 is
    initialised from N(0, 1/R) and E2 with 0, so that training starts without transitions.

    Args:
        vocab_size: V.
        rank: R, at least 1; 32 in the paper.
    """

    def __init__(self, vocab_size: int, rank: int) -> None:
        super().__init__()
        for name, value in (("vocab_size", vocab_size), ("rank", rank)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, found {value}")
        self.rank = rank
        self.source = nn.Embedding(vocab_size, rank)
        self.target = nn.Embedding(vocab_size, rank)
        nn.init.normal_(self.source.weight, std=rank**-0.5)
        nn.init.zeros_(self.target.weight)

    def forward(self, ids: Tensor, states: Tensor | None = None) -> Tensor:
        """Scores (B, T-1, K, K), at least float32, of the candidates ``ids`` (B, T, K).

        Raises ValueError if ``states`` do not fit: see `factors`.
        """
        leave, enter = self.factors(ids, states)
        with _full_precision(ids):
            return leave @ enter.transpose(2, 3)

    def factors(self, ids: Tensor, states: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors (B, T-1, K, R) of the candidates left and entered; their products are the scores.

        Raises ValueError if ``states`` are given: static transitions do not use them.
        """
        if states is not None:
            raise ValueError("states: expected None, static transitions take no states")
        return self._embed(ids)

    def _embed(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """E1 of the tokens left and E2 of the tokens entered, (B, T-1, K, R) each."""
        if ids.dim() != 3:
            raise ValueError(f"ids: expected shape (B, T, K), found {tuple(ids.shape)}")
        return _widen(self.source(ids[:, :-1])), _widen(self.target(ids[:, 1:]))


class DynamicLowRankTransitions(LowRankTransitions):
    """t(u, v, i) = E1[u] D^i E2[v] with D^i = f([h_{i-1}; h_i]) from the decoder's states.

    f is a two-layer ReLU network. Its last layer initially returns the identity, so that the
    dynamic model starts as the static one and can load its checkpoint: only ``f.*`` is new.

    Args:
        vocab_size: V.
        rank: R.
        state_dim: D, the width of a state.
        hidden_dim: the hidden width of f, which the paper does not specify; D if None.
    """

    def __init__(
        self, vocab_size: int, rank: int, state_dim: int, hidden_dim: int | None = None
    ) -> None:
        super().__init__(vocab_size, rank)
        hidden_dim = state_dim if hidden_dim is None else hidden_dim
        for name, value in (("state_dim", state_dim), ("hidden_dim", hidden_dim)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, found {value}")
        self.state_dim = state_dim
        last = nn.Linear(hidden_dim, rank * rank)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.eye(rank).flatten())
        self.f = nn.Sequential(nn.Linear(2 * state_dim, hidden_dim), nn.ReLU(), last)

    def factors(self, ids: Tensor, states: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """E1 D^i of the candidates left and E2 of those entered, given ``states`` (B, T, D).

        Raises ValueError if the states are missing or have another shape.
        """
        leave, enter = self._embed(ids)
        expected = (*ids.shape[:2], self.state_dim)
        if states is None or states.shape != expected:
            found = None if states is None else tuple(states.shape)
            raise ValueError(
                f"states: dynamic transitions expect states of shape {expected}, found {found}"
            )
        # (B, T-1, 2D) -> (B, T-1, R, R)
        neighbours = torch.cat([states[:, :-1], states[:, 1:]], dim=2)
        between = _widen(self.f(neighbours)).view(*neighbours.shape[:2], self.rank, self.rank)
        with _full_precision(ids):
            return leave @ between, enter


def _full_precision(tensor: Tensor) -> torch.autocast:
    """Disables autocast, so that matrix products keep the type of their factors."""
    return torch.autocast(tensor.device.type, enabled=False)


def _widen(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

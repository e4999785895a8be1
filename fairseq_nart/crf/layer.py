"""The conditional random field as one module (https://arxiv.org/abs/1910.11555)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fairseq_nart.crf.candidates import top_candidates
from fairseq_nart.crf.lattice import Lattice
from fairseq_nart.crf.transitions import DynamicLowRankTransitions, LowRankTransitions


class LinearChainCRF(nn.Module):
    """A chain over the K best tokens of each position, with low-rank transitions.

    Every method takes ``emissions`` (B, T, V), the raw output scores (for decoding also (P, V),
    those of the P real positions only); ``mask`` (B, T) bool, True on real positions, which come
    first; and ``states`` (B, T, D) if and only if the transitions are dynamic. K is the smaller of
    ``candidates`` and V. A wrong shape raises ValueError.

    Args:
        vocab_size: V.
        rank: R, the rank of the transitions; 32 in the paper.
        candidates: tokens kept per position; 64 in the paper. May be changed at any time.
        dynamic: make the transitions depend on the decoder's states.
        state_dim: D, required by dynamic transitions.

    Raises:
        ValueError: a size below 1, or dynamic transitions without ``state_dim``.
    """

    def __init__(
        self,
        vocab_size: int,
        rank: int = 32,
        candidates: int = 64,
        dynamic: bool = False,
        state_dim: int | None = None,
    ) -> None:
        super().__init__()
        if candidates < 1:
            raise ValueError(f"candidates: expected at least 1, found {candidates}")
        self.vocab_size = vocab_size
        self.candidates = candidates
        self.transitions: LowRankTransitions
        if not dynamic:
            self.transitions = LowRankTransitions(vocab_size, rank)
        elif state_dim is None:
            raise ValueError("state_dim: expected the width of the states, found None")
        else:
            self.transitions = DynamicLowRankTransitions(vocab_size, rank, state_dim)

    def log_likelihood(
        self, emissions: Tensor, targets: Tensor, mask: Tensor, states: Tensor | None = None
    ) -> Tensor:
        """log p(targets | x) (B,), never above 0, for token ids ``targets`` (B, T).

        The targets are added to the candidates, because the sum over paths must include their
        score. Targets at padding have no effect, but must be ids of the vocabulary.
        """
        self._check(emissions)
        ids = top_candidates(emissions, self.candidates, include=targets)
        lattice = self.lattice_of(ids, emissions.gather(2, ids), mask, states)
        return lattice.log_likelihood(lattice.path_of(targets))

    def lattice_of(
        self, ids: Tensor, scores: Tensor, mask: Tensor, states: Tensor | None = None
    ) -> Lattice:
        """The lattice of given candidates ``ids`` (B, T, K) with their emissions ``scores``.

        For callers who compute the scores together with something else. `top_candidates` with
        ``include`` ensures that a reference is among the candidates.
        """
        return Lattice(ids, scores, self.transitions(ids, states), mask)

    def lattice(self, emissions: Tensor, mask: Tensor, states: Tensor | None = None) -> Lattice:
        """The lattice for decoding: the K best tokens of each position, best first."""
        if emissions.dim() != 2:
            self._check(emissions)
            ids = top_candidates(emissions, self.candidates)
            return self.lattice_of(ids, emissions.gather(2, ids), mask, states)
        real = int(mask.sum())
        if emissions.shape != (real, self.vocab_size):
            raise ValueError(
                f"emissions: expected shape ({real}, {self.vocab_size}) of the real positions "
                f"alone, found {tuple(emissions.shape)}"
            )
        ids = top_candidates(emissions.unsqueeze(0), self.candidates).squeeze(0)
        scores = _at_real_positions(emissions.gather(1, ids), mask)
        return self.lattice_of(_at_real_positions(ids, mask), scores, mask, states)

    @torch.no_grad()
    def decode(
        self, emissions: Tensor, mask: Tensor, states: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The best path's raw score (B,) and its tokens (B, T), 0 at padding."""
        lattice = self.lattice(emissions, mask, states)
        best, path = lattice.best_path()
        return best, lattice.tokens(path)

    def extra_repr(self) -> str:
        return f"candidates={self.candidates}"

    def _check(self, emissions: Tensor) -> None:
        if emissions.dim() != 3 or emissions.shape[2] != self.vocab_size:
            raise ValueError(
                f"emissions: expected shape (B, T, {self.vocab_size}), "
                f"found {tuple(emissions.shape)}"
            )


def _at_real_positions(x: Tensor, mask: Tensor) -> Tensor:
    """(P, K) of the real positions -> (B, T, K), 0 at padding."""
    return x.new_zeros(*mask.shape, x.shape[1]).masked_scatter(mask.unsqueeze(2), x)

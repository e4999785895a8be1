"""A batch of chains with their scores, and inference as methods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fairseq_nart.crf import chain


@dataclass(frozen=True)
class Lattice:
    """K candidate tokens at each of T positions, and the scores of all paths through them.

    A path is given by its slots (B, T): the index of the candidate at each position. Several paths
    of a sentence are (B, N, T). Slots and tokens are 0 at padding.
    """

    ids: Tensor
    """(B, T, K) token ids; from `LinearChainCRF.lattice` the largest emission comes first."""
    emissions: Tensor
    """(B, T, K) scores of the candidates."""
    transitions: Tensor
    """(B, T-1, K, K) score of a candidate (last axis) after one of the previous position."""
    mask: Tensor
    """(B, T) bool, True on real positions, which come first."""

    def best_path(self) -> tuple[Tensor, Tensor]:
        """Viterbi: the best raw score (B,) and its path (B, T)."""
        return chain.best_path(self.emissions, self.transitions, self.mask)

    def k_best(self, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` best raw scores (B, k) and their paths (B, k, T).

        Missing paths score -inf. Raises ValueError if ``k`` < 1.
        """
        return chain.k_best(self.emissions, self.transitions, self.mask, k)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` samples (B, count, T) from the distribution over paths."""
        return chain.sample(self.emissions, self.transitions, self.mask, count, generator)

    def tokens(self, path: Tensor) -> Tensor:
        """The tokens of a path (B, T), or of several (B, N, T)."""
        several = path.unsqueeze(1) if path.dim() == 2 else path
        tokens = self.ids.gather(2, several.transpose(1, 2)).transpose(1, 2)
        return tokens.masked_fill(~self.mask.unsqueeze(1), 0).view_as(path)

    def path_of(self, targets: Tensor) -> Tensor:
        """The path (B, T) of tokens (B, T), which must be among the candidates."""
        return (self.ids == targets.unsqueeze(2)).int().argmax(dim=2)

    def log_probs(self, path: Tensor) -> Tensor:
        """log p(y_i | y_{i-1}, x) along a path (B, T), or along several (B, N, T); 0 at padding.

        They sum to the log-probability of the path among the candidates.
        """
        if path.dim() == 3:
            return torch.stack([self.log_probs(one) for one in path.unbind(1)], dim=1)
        return chain.path_log_probs(self.emissions, self.transitions, path, self.mask)

    def log_likelihood(self, path: Tensor) -> Tensor:
        """log p(path | x) (B,), never above 0."""
        return chain.log_likelihood(self.emissions, self.transitions, path, self.mask)

    def log_partition(self) -> Tensor:
        """Log of the summed exponential scores of all paths, (B,)."""
        return chain.log_partition(self.emissions, self.transitions, self.mask)

    def marginals(self) -> tuple[Tensor, Tensor]:
        """Probabilities of slots (B, T, K) and of neighbouring pairs (B, T-1, K, K)."""
        return chain.marginals(self.emissions, self.transitions, self.mask)

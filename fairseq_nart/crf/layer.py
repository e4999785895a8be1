"""The conditional random field as one module (https://arxiv.org/abs/1910.11555)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fairseq_nart.crf import chain
from fairseq_nart.crf.candidates import top_candidates
from fairseq_nart.crf.transitions import DynamicLowRankTransitions, LowRankTransitions


class LinearChainCRF(nn.Module):
    """A chain over the K best tokens of each position, with low-rank transitions.

    Every method takes ``emissions`` (B, T, V), the raw output scores, decoding also (P, V), those
    of the P real positions alone; ``mask`` (B, T) bool, True on real positions, which come first;
    and ``states`` (B, T, D) if and only if the transitions are dynamic. K is ``candidates`` or V,
    whichever is smaller. A wrong shape raises ValueError.

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
        """log p(targets | x) (B,), never above 0, for ``targets`` (B, T) of token ids.

        The reference is always among the candidates; without that the sum over paths would miss
        its score. Targets at padding are not looked at, but must be ids of the vocabulary.
        """
        self._check(emissions)
        ids = top_candidates(emissions, self.candidates, include=targets)
        return self.log_likelihood_among(ids, emissions.gather(2, ids), targets, mask, states)

    def log_likelihood_among(
        self,
        ids: Tensor,
        scores: Tensor,
        targets: Tensor,
        mask: Tensor,
        states: Tensor | None = None,
    ) -> Tensor:
        """As `log_likelihood`, for candidates ``ids`` (B, T, K) with their emissions ``scores``.

        For callers who have gathered these with something else in one pass. Each target must be
        among its candidates: `top_candidates` with ``include`` sees to that.
        """
        # (B, T): argmax of the one match
        path = (ids == targets.unsqueeze(2)).int().argmax(dim=2)
        return chain.log_likelihood(scores, self.transitions(ids, states), path, mask)

    def lattice(
        self, emissions: Tensor, mask: Tensor, states: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What decoding chooses from: the candidates' ids (B, T, K), the largest emission first,
        their emissions (B, T, K) and their transitions (B, T-1, K, K)."""
        if emissions.dim() != 2:
            self._check(emissions)
            ids = top_candidates(emissions, self.candidates)
            return ids, emissions.gather(2, ids), self.transitions(ids, states)
        real = int(mask.sum())
        if emissions.shape != (real, self.vocab_size):
            raise ValueError(
                f"emissions: expected shape ({real}, {self.vocab_size}) of the real positions "
                f"alone, found {tuple(emissions.shape)}"
            )
        ids = top_candidates(emissions.unsqueeze(0), self.candidates).squeeze(0)
        scores = _at_real_positions(emissions.gather(1, ids), mask)
        ids = _at_real_positions(ids, mask)
        return ids, scores, self.transitions(ids, states)

    @torch.no_grad()
    def decode(
        self, emissions: Tensor, mask: Tensor, states: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The best path's raw score (B,) and its tokens (B, T), 0 at padding."""
        ids, scores, moves = self.lattice(emissions, mask, states)
        best, path = chain.best_path(scores, moves, mask)
        return best, _tokens(ids, path, mask)

    @torch.no_grad()
    def decode_with_log_probs(
        self, emissions: Tensor, mask: Tensor, states: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """log p(y_i | y_{i-1}, x) along the best path (B, T) and its tokens (B, T).

        The log-probabilities are 0 at padding and sum to that of the path among the candidates.
        """
        ids, scores, moves = self.lattice(emissions, mask, states)
        _, path = chain.best_path(scores, moves, mask)
        return chain.path_log_probs(scores, moves, path, mask), _tokens(ids, path, mask)

    @torch.no_grad()
    def k_best(
        self, emissions: Tensor, mask: Tensor, k: int, states: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The ``k`` best raw scores (B, k) and their tokens (B, k, T), 0 at padding.

        Missing paths score -inf. Raises ValueError if ``k`` < 1.
        """
        ids, scores, moves = self.lattice(emissions, mask, states)
        best, paths = chain.k_best(scores, moves, mask, k)
        return best, _tokens_of_several(ids, paths, mask)

    @torch.no_grad()
    def k_best_with_log_probs(
        self, emissions: Tensor, mask: Tensor, k: int, states: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As ``k_best``, and between the two the log-probabilities (B, k, T) along each path.

        They are those of ``decode_with_log_probs``.
        """
        ids, scores, moves = self.lattice(emissions, mask, states)
        best, paths = chain.k_best(scores, moves, mask, k)
        along = [chain.path_log_probs(scores, moves, path, mask) for path in paths.unbind(1)]
        return best, torch.stack(along, dim=1), _tokens_of_several(ids, paths, mask)

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


def _tokens(ids: Tensor, path: Tensor, mask: Tensor) -> Tensor:
    """Tokens in the slots of ``path``, (B, T); 0 at padding."""
    return _tokens_of_several(ids, path.unsqueeze(1), mask).squeeze(1)


def _tokens_of_several(ids: Tensor, paths: Tensor, mask: Tensor) -> Tensor:
    """Tokens in the slots of ``paths``, (B, k, T); 0 at padding."""
    tokens = ids.gather(2, paths.transpose(1, 2)).transpose(1, 2)
    return tokens.masked_fill(~mask.unsqueeze(1), 0)

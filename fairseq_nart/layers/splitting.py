"""State splitting: k positions per source token (Libovický and Helcl 2018, arXiv 1811.04719)."""

from torch import Tensor, nn


class StateSplitting(nn.Module):
    """Projects each state to width k D and splits it into k states of width D."""

    def __init__(self, dim: int, k: int) -> None:
        """ValueError for k below 1."""
        super().__init__()
        if k < 1:
            raise ValueError(f"a state is split into at least 1 part, not {k}")
        self.k = k
        self.projection = nn.Linear(dim, k * dim)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """states (B,S,D), mask (B,S) -> (B,kS,D) and (B,kS)."""
        batch, length, dim = states.shape
        frames = self.projection(states).view(batch, self.k * length, dim)
        return frames, mask[:, :, None].expand(-1, -1, self.k).flatten(1)

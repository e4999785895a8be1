"""Statistics that training collects without gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_nart.errors import UserError
from fairseq_nart.losses.workers import total


class Statistics(nn.Module):
    """A module whose buffers are fp32 in every precision: bf16 would lose small changes.

    UserError if a checkpoint lacks them.
    """

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        for name in self._buffers:
            if prefix + name not in state:
                raise UserError(
                    f"the checkpoint lacks {prefix}{name}, statistics of the latent codes, without "
                    "which they mean nothing: use the checkpoint that fairseq-train wrote"
                )
        super()._load_from_state_dict(state, prefix, *rest)


class Usage(Statistics):
    """How often each code was used in the last updates: a moving sum, with the decay 0.99."""

    counts: Tensor

    def __init__(self, codes: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("counts", torch.zeros(codes))

    def update(self, labels: Tensor, mask: Tensor) -> None:
        """labels (B,M,m) of the real latents in mask (B,M)."""
        used = labels[mask].flatten()
        counts = torch.zeros_like(self.counts)
        counts.index_add_(0, used, torch.full_like(used, 1 / labels.size(2), dtype=counts.dtype))
        self.counts.mul_(self.decay).add_(total(counts))

    def perplexity(self) -> Tensor:
        """() exp(entropy) of the codes' frequencies: the number of codes that are in use."""
        shares = self.counts / self.counts.sum().clamp(min=1e-9)
        return torch.exp(torch.special.entr(shares).sum())

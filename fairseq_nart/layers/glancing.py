"""Glancing: in training the decoder sees a part of the reference (GLAT, arXiv 2008.07905)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fairseq_nart.layers.masking import lowest


class Glancing(nn.Module):
    """Decides how many positions of the reference are revealed, and which.

    The decoder runs twice in a training step. Its first pass has no gradient and shows how hard a
    sentence is: the more positions are wrong, the more are revealed. The system replaces the
    decoder's input by the reference's embedding there and learns the rest in the second pass:

        if self.glancing.active:
            with self.glancing.first_pass(x.device):
                wrong = ...  # (B,T), real positions where the first pass errs
            revealed = self.glancing.reveal(wrong, mask)
            x = torch.where(revealed[..., None], self.decoder.embed(target), x)
    """

    def __init__(self, start: float, end: float, updates: int) -> None:
        """The share of the wrong positions that is revealed changes linearly from `start` to `end`
        over the `updates` of the training."""
        super().__init__()
        self.start, self.end, self.updates = start, end, updates
        self.ratio = start
        """The current share."""
        self._seed = 0

    def set_num_updates(self, number: int) -> None:
        """Called by fairseq before each training step with the number of finished updates."""
        done = min(1.0, number / self.updates) if self.updates else 0.0
        self.ratio = self.start + done * (self.end - self.start)

    @property
    def active(self) -> bool:
        """Whether the step needs a first pass. Never in evaluation."""
        return self.training and self.ratio > 0

    @contextmanager
    def first_pass(self, device: torch.device) -> Iterator[None]:
        """No gradient, and the same dropout as in the second pass."""
        self._seed = int(torch.randint(2**31, ()))
        devices = [device] if device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield

    def reveal(self, wrong: Tensor, mask: Tensor, poisson: bool = False) -> Tensor:
        """wrong (B,T) bool, where the first pass errs, mask (B,T) -> (B,T) bool, True on the
        positions to reveal, chosen uniformly.

        Their number is the ratio times the number of wrong ones, rounded down, or with `poisson` a
        sample from the Poisson distribution with this mean. One real position always stays hidden.
        """
        generator = torch.Generator(mask.device).manual_seed(self._seed)
        count = self.ratio * wrong.sum(dim=1).float()
        if poisson:
            count = torch.poisson(count, generator=generator)
        most = (mask.sum(dim=1) - 1).clamp(min=0)
        keys = torch.rand(mask.shape, device=mask.device, generator=generator)
        return lowest(keys, mask, torch.minimum(count.long(), most))

"""Fertilities: how often each source token is copied into the decoder (arXiv 1711.02281).

Source and target include the EOS, which has a fertility like any token: the fertilities of a
sentence sum to its target's length with the EOS. (Gu et al. strip the EOS; here lengths include it
in all systems.) Padding, on either side, has fertility 0.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers.noise import BLOCK, gumbel
from fairseq_nart.layers.states import EncoderStates

CLASSES = 50
"""L: a fertility is 0 to 49."""


class FertilityHead(nn.Module):
    """p(f|x): an independent softmax over L fertilities for each source token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, CLASSES)

    def forward(self, states: EncoderStates) -> Tensor:
        """(B,S,L) logits, at least in fp32."""
        logits: Tensor = self.projection(states.output)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def log_likelihood(logits: Tensor, fertilities: Tensor, mask: Tensor) -> Tensor:
    """logits (B,S,L), fertilities and mask (B,S) -> (B,) log p(f|x), in nats.

    A fertility beyond L - 1 counts as L - 1.
    """
    classes = fertilities.clamp(max=logits.size(2) - 1)
    loss = F.cross_entropy(logits.transpose(1, 2), classes, reduction="none")  # (B,S)
    return -loss.masked_fill(~mask, 0.0).sum(dim=1)


def most_probable(logits: Tensor) -> Tensor:
    """logits (B,S,L) -> (B,S): the most probable fertility of each token."""
    return logits.argmax(dim=2)


def average(logits: Tensor) -> Tensor:
    """logits (B,S,L) -> (B,S): the rounded expectation of each token's fertility."""
    values = torch.arange(logits.size(2), device=logits.device, dtype=logits.dtype)
    return (logits.softmax(dim=2) @ values).round().long()


@functools.lru_cache(maxsize=2**12)
def _gumbel(number: int, block: int, device: torch.device) -> Tensor:
    return torch.from_numpy(gumbel(number, block, CLASSES)).to(device)


def sample(logits: Tensor, mask: Tensor, count: int) -> Tensor:
    """logits (B,S,L), mask (B,S) -> (B,count,S) samples of p(f|x), by the Gumbel-max trick.

    Common random numbers: a token's noise depends only on its index among the real tokens and on
    the sample's number. So a sentence has the same samples in every batch, and asking for more
    samples keeps the first ones.
    """
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (B,S)
    blocks = range(-(-mask.size(1) // BLOCK))
    samples = places.new_empty(len(places), count, places.size(1))
    # One sample at a time: all noisy logits together would take `count` times (B,S,L).
    for number in range(count):
        noise = torch.cat([_gumbel(number, block, logits.device) for block in blocks])
        samples[:, number] = (logits + noise[places]).argmax(dim=2)
    return samples


def make_valid(fertilities: Tensor, mask: Tensor, longest: int) -> Tensor:
    """fertilities (B,N,S), mask (B,S) -> (B,N,S), limited to valid target lengths.

    Padding gets 0. Copies beyond twice the source's true length, or beyond `longest`, are dropped.
    If nothing would be copied, the last real token is copied once.
    """
    lengths = mask.sum(dim=1)
    most = (2 * lengths).clamp(max=longest)[:, None, None]
    totals = (fertilities * mask[:, None]).cumsum(dim=2).minimum(most)  # (B,N,S)
    copies = totals.diff(dim=2, prepend=totals.new_zeros(*totals.shape[:2], 1))
    last = mask & (mask.cumsum(dim=1) == lengths[:, None])
    return copies + (last[:, None] & (totals[:, :, -1:] == 0))


def copy_index(fertilities: Tensor, width: int) -> Tensor:
    """fertilities (B,S) -> (B,width): the source index that each target position copies, in order.

    Token s is copied f_s times. Positions beyond the sum of fertilities have an arbitrary index.
    """
    ends = fertilities.cumsum(dim=1)
    steps = torch.arange(width, device=ends.device).repeat(len(ends), 1)
    index = torch.searchsorted(ends, steps, right=True)  # the first s with ends[s] > step
    return index.clamp(max=fertilities.size(1) - 1)

"""Fertilities: how often each source token is copied into the decoder (arXiv 1711.02281).

Source and target both carry their end of sentence, whose fertility is one like any other: the
fertilities of a sentence sum to its target's length with its end. (Gu et al. strip the end; we keep
the one rule of lengths that all our systems have.) Padding has fertility 0, on whatever side.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.layers.states import EncoderStates

CLASSES = 50
"""L: a fertility is 0 to 49."""

BLOCK = 64
"""Positions whose noise comes of one seed."""


class FertilityHead(nn.Module):
    """p(f|x): a softmax over L fertilities for each source token, all independent."""

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
    """logits (B,S,L) -> (B,S)."""
    return logits.argmax(dim=2)


def average(logits: Tensor) -> Tensor:
    """logits (B,S,L) -> (B,S): the expectation, rounded; it lies within 0..L-1 by itself."""
    values = torch.arange(logits.size(2), device=logits.device, dtype=logits.dtype)
    return (logits.softmax(dim=2) @ values).round().long()


@functools.lru_cache(maxsize=2**12)  # of 12.5 KiB each
def _gumbel(sample: int, block: int, device: torch.device) -> Tensor:
    """(BLOCK,CLASSES) Gumbel variables: the same on every machine and call.

    A seed for each sample and block, drawn on the CPU: an entry is one whatever is asked beside it.
    """
    generator = torch.Generator().manual_seed(2**20 * sample + block)
    noise = torch.empty(BLOCK, CLASSES, dtype=torch.float64)
    return -noise.exponential_(generator=generator).log().float().to(device)


def draw(logits: Tensor, mask: Tensor, samples: int) -> Tensor:
    """logits (B,S,L), mask (B,S) -> (B,samples,S) samples of p(f|x), by the Gumbel-max trick.

    Common random numbers: those of a token depend on its place among the real tokens and on the
    sample's number alone. So a sentence has the same samples in every batch, and the first of many
    samples are the samples of few.
    """
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (B,S)
    blocks = range(-(-mask.size(1) // BLOCK))
    drawn = places.new_empty(len(places), samples, places.size(1))
    # One sample at a time: all noisy logits at once would be `samples` times (B,S,L).
    for sample in range(samples):
        noise = torch.cat([_gumbel(sample, block, logits.device) for block in blocks])
        drawn[:, sample] = (logits + noise[places]).argmax(dim=2)
    return drawn


def settle(fertilities: Tensor, mask: Tensor, longest: int) -> Tensor:
    """fertilities (B,N,S), mask (B,S) -> the same as targets can be made of.

    Padding gets 0; copies beyond twice the source's true length, or beyond `longest`, are left out;
    where nothing would be copied, the last real token is copied once.
    """
    lengths = mask.sum(dim=1)
    most = (2 * lengths).clamp(max=longest)[:, None, None]
    totals = (fertilities * mask[:, None]).cumsum(dim=2).minimum(most)  # (B,N,S)
    copies = totals.diff(dim=2, prepend=totals.new_zeros(*totals.shape[:2], 1))
    last = mask & (mask.cumsum(dim=1) == lengths[:, None])
    return copies + (last[:, None] & (totals[:, :, -1:] == 0))


def copy_index(fertilities: Tensor, width: int) -> Tensor:
    """fertilities (B,S) -> (B,width): which source token each target position copies, in order.

    Token s stands f_s times; positions beyond their sum hold the index of any token.
    """
    ends = fertilities.cumsum(dim=1)
    steps = torch.arange(width, device=ends.device).repeat(len(ends), 1)
    index = torch.searchsorted(ends, steps, right=True)  # the first s with ends[s] > step
    return index.clamp(max=fertilities.size(1) - 1)

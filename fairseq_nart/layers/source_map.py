"""Builds the decoder's input.

`pad` depends only on the target length (the paper's input); `hard_uniform` and `soft_uniform` copy
source embeddings (Gu et al. 2018, arXiv 1711.02281, and its released code). Positions i (target)
and j (source) count from 0; S and T are a sentence's real tokens, and padding may be on either
side. The N candidates of a sentence, each with its own mask, share its source.
"""

import torch
from torch import Tensor, nn

from fairseq_nart.layers.states import EncoderStates

SHARPNESS = 0.3
"""Denominator of the soft copy, as in the released code of Gu et al."""


class PadInput(nn.Module):
    """T-1 placeholders and one end symbol, each a learned vector.

    fairseq's embedding of `<pad>` cannot serve: it is a constant zero, and its mask would hide the
    whole decoder input.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.placeholder = nn.Parameter(torch.randn(2, dim))

    def forward(self, source: EncoderStates, mask: Tensor) -> Tensor:
        """mask (BN,T) of the target -> (BN,T,D)."""
        length = mask.size(1)
        last = mask.sum(dim=1, keepdim=True) - 1  # (B,1)
        end = torch.arange(length, device=mask.device) == last  # (B,T)
        return self.placeholder[end.long()]


def _centres(source: EncoderStates, mask: Tensor) -> Tensor:
    """(B,T): i S / T, the source position that corresponds to each target position."""
    steps = torch.arange(mask.size(1), device=mask.device)
    return steps * source.lengths[:, None] / mask.sum(dim=1, keepdim=True)


def copied(source: EncoderStates, index: Tensor) -> Tensor:
    """index (BN,T) -> (BN,T,D), the source embeddings at these positions."""
    dim = source.embeddings.size(2)
    places = index.view(source.mask.size(0), -1, 1).expand(-1, -1, dim)  # (B,NT,D)
    return source.embeddings.gather(1, places).view(*index.shape, dim)


class HardUniformCopy(nn.Module):
    """Copies the embedding of source token round(i S / T)."""

    def forward(self, source: EncoderStates, mask: Tensor) -> Tensor:
        """mask (BN,T) of the target -> (BN,T,D)."""
        source = source.repeat_to(mask.size(0))
        nearest = (_centres(source, mask) + 0.5).long()  # (B,T)
        first = source.mask.int().argmax(dim=1, keepdim=True)
        return copied(source, first + torch.minimum(nearest, source.lengths[:, None] - 1))


class SoftUniformCopy(nn.Module):
    """Averages source embeddings with weights softmax_j(-(j - i S / T)^2 / 0.3)."""

    def forward(self, source: EncoderStates, mask: Tensor) -> Tensor:
        """mask (BN,T) of the target -> (BN,T,D)."""
        source = source.repeat_to(mask.size(0))
        j = source.mask.long().cumsum(dim=1) - 1  # (B,S)
        distance = (j[:, None] - _centres(source, mask)[..., None]).square()  # (B,T,S)
        logits = (-distance / SHARPNESS).masked_fill(~source.mask[:, None], float("-inf"))
        return torch.bmm(logits.softmax(dim=2).to(source.embeddings), source.embeddings)


def build_source_map(name: str, dim: int) -> nn.Module:
    """The module for `pad`, `hard_uniform` or `soft_uniform`; dim is the decoder's width."""
    if name == "pad":
        return PadInput(dim)
    copies = {"hard_uniform": HardUniformCopy, "soft_uniform": SoftUniformCopy}
    return copies[name]()

"""Improved semantic hashing (Kaiser and Bengio 2018, arXiv 1801.09797; arXiv 1803.03382)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_nart.latent.quantizer import Quantized
from fairseq_nart.latent.statistics import Usage

NOISE = 0.5
"""Standard deviation of the noise in training, which is cut at two of them, as in the released
code of Kaiser et al. (The paper has 1.)"""

CONTINUOUS = 0.5
"""Share of the sentences that use saturated numbers instead of bits in training."""


def saturating_sigmoid(x: Tensor) -> Tensor:
    """max(0, min(1, 1.2 sigmoid(x) - 0.1)), of which 0 and 1 are reached (section 2.2)."""
    return (1.2 * torch.sigmoid(x) - 0.1).clamp(0, 1)


def to_code(bits: Tensor) -> Tensor:
    """bits (...,n), 0 or 1 -> (...) numbers, the first bit being the lowest."""
    return (bits.long() << torch.arange(bits.size(-1), device=bits.device)).sum(dim=-1)


def to_bits(codes: Tensor, count: int) -> Tensor:
    """codes (...) -> (...,count) bits, the inverse of `to_code`."""
    powers = 2 ** torch.arange(count, device=codes.device)
    return codes[..., None].div(powers, rounding_mode="floor") % 2


class SemanticHashing(nn.Module):
    """Each code is a number of n bits, the signs of n projections. None can be replaced."""

    revives = False

    def __init__(self, dim: int, ffn_dim: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.codes = 2**bits
        self.usage = Usage(self.codes)
        self.projection = nn.Linear(dim, bits)
        self.fc1 = nn.Linear(2 * bits, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, dim)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, z: Tensor, mask: Tensor) -> Quantized:
        """z (B,M,D), mask (B,M). The bits have the gradient of the saturating sigmoid."""
        logits: Tensor = self.projection(z)
        if self.training:
            logits = logits + NOISE * _cut_normal(logits)
        saturated = saturating_sigmoid(logits)
        hard = (logits > 0).to(logits)
        bits = saturated + (hard - saturated).detach()
        if self.training:
            continuous = torch.rand(len(z), device=z.device) < CONTINUOUS
            bits = torch.where(continuous[:, None, None], saturated, bits)
        labels = to_code(hard)[..., None]
        if self.training:
            self.usage.update(labels, mask)
        return Quantized(self._embed(bits), labels, z.new_zeros(()))

    def embed(self, codes: Tensor) -> Tensor:
        """codes (...) -> (...,D)."""
        return self._embed(to_bits(codes, self.bits).to(self.fc1.weight))

    def _embed(self, bits: Tensor) -> Tensor:
        """bits (...,n), each from 0 to 1 -> (...,D)."""
        hidden = F.relu(self.fc1(torch.cat([bits, 1 - bits], dim=-1)))
        vectors: Tensor = self.layer_norm(self.fc2(hidden))
        return vectors


def _cut_normal(like: Tensor) -> Tensor:
    """Normal noise of the shape of `like`, cut at two standard deviations."""
    low, high = torch.special.ndtr(torch.tensor([-2.0, 2.0])).tolist()
    uniform = torch.rand(like.shape, device=like.device)
    noise: Tensor = torch.special.ndtri(low + (high - low) * uniform)
    return noise.to(like)

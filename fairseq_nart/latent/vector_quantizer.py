"""Vector quantisation with moving averages, soft EM and codebooks of slices.

Sources: van den Oord et al. 2017 (arXiv 1711.00937, appendix A.1) for the moving averages, Roy et
al. 2018 (arXiv 1805.11063, section 3) for soft EM, Kaiser et al. 2018 (arXiv 1803.03382, section
3.3) for slices (DVQ).
"""

import torch
from torch import Tensor

from fairseq_nart.latent.quantizer import Quantized
from fairseq_nart.latent.statistics import Statistics, Usage
from fairseq_nart.losses.workers import of_first_worker, total

EPSILON = 1e-5
"""Constant of Laplace smoothing."""

IDLE = 20
"""A code vector that no latent has used in this many updates is replaced by one from the batch. In
the first update, when they are random, all unused ones are."""


class VectorQuantizer(Statistics):
    """The nearest code vector, for the whole vector or for each of its slices.

    With n slices and K codes in all, each slice has a codebook of its own with K^(1/n) code
    vectors, and a code is a number of n digits, the first one being the lowest. The code vectors
    are moving averages of what was quantised to them: sums divided by counts.
    """

    revives = True
    counts: Tensor
    sums: Tensor
    idle: Tensor

    def __init__(self, dim: int, bits: int, slices: int, samples: int, decay: float) -> None:
        """`samples` for soft EM in training; 0 for the nearest code vector."""
        super().__init__()
        self.codes = 2**bits
        self.slices = slices
        self.each = 2 ** (bits // slices)
        self.samples = samples
        self.decay = decay
        self.usage = Usage(self.codes)
        self.register_buffer("counts", torch.ones(slices, self.each))
        self.register_buffer("sums", torch.randn(slices, self.each, dim // slices))
        self.register_buffer("idle", torch.full((slices, self.each), IDLE - 1.0))

    def codebook(self) -> Tensor:
        """(n,k,D/n) code vectors. Laplace smoothing applies to the division only."""
        all_ = self.counts.sum(dim=1, keepdim=True)
        smooth = (self.counts + EPSILON) / (all_ + self.each * EPSILON) * all_
        vectors: Tensor = self.sums / smooth[..., None]
        return vectors

    def forward(self, z: Tensor, mask: Tensor) -> Quantized:
        """z (B,M,D), mask (B,M). In training, soft EM averages the vectors of sampled codes."""
        codebook = self.codebook()
        parts = z.float().view(*z.shape[:2], self.slices, -1)  # (B,M,n,D/n)
        with torch.no_grad():
            chosen = self._chosen(parts, codebook)  # (B,M,n,m)
            vectors = _looked_up(codebook, chosen.movedim(3, 0)).mean(dim=0).flatten(2)  # (B,M,D)
            labels = (chosen * self._places()[:, None]).sum(dim=2)
            if self.training:
                self._update(parts[mask], chosen[mask])
                self.usage.update(labels, mask)
        distance = (z.float() - vectors).square().mean(dim=2)
        vectors = vectors.to(z)
        through = vectors + (z - z.detach())  # in bf16, z + (vectors - z) would not be the vectors
        return Quantized(through, labels, distance.masked_fill(~mask, 0.0).sum())

    def embed(self, codes: Tensor) -> Tensor:
        """codes (...) -> (...,D), in fp32."""
        digits = codes[..., None].div(self._places(), rounding_mode="floor") % self.each
        return _looked_up(self.codebook(), digits).flatten(-2)

    def _places(self) -> Tensor:
        """(n,) the place value of each slice's digit."""
        places: Tensor = self.each ** torch.arange(self.slices, device=self.counts.device)
        return places

    def _chosen(self, parts: Tensor, codebook: Tensor) -> Tensor:
        """parts (B,M,n,D/n) -> (B,M,n,m): the nearest code vector of each, or samples."""
        products = torch.einsum("bmnd,nkd->bmnk", parts, codebook)
        scores = 2 * products - codebook.square().sum(dim=2)  # -distance, up to a constant
        if not (self.training and self.samples):
            return scores.argmax(dim=3, keepdim=True)
        sums = scores.softmax(dim=3).cumsum(dim=3)
        uniform = torch.rand(*scores.shape[:3], self.samples, device=scores.device)
        chosen = torch.searchsorted(sums, uniform * sums[..., -1:], right=True)
        return chosen.clamp(max=self.each - 1)

    def _update(self, parts: Tensor, chosen: Tensor) -> None:
        """One step of the moving averages: parts (P,n,D/n), chosen (P,n,m), of all workers."""
        weight = (1 - self.decay) / chosen.size(2)
        rows = (
            chosen + self.each * torch.arange(self.slices, device=chosen.device)[:, None]
        ).flatten()
        vectors = parts[:, :, None].expand(-1, -1, chosen.size(2), -1).flatten(0, 2)
        counts, sums = torch.zeros_like(self.counts), torch.zeros_like(self.sums)
        counts.view(-1).index_add_(0, rows, counts.new_ones(len(rows)))
        sums.flatten(0, 1).index_add_(0, rows, vectors)
        total(counts)
        total(sums)
        self.counts.mul_(self.decay).add_(counts, alpha=weight)
        self.sums.mul_(self.decay).add_(sums, alpha=weight)
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        dead = self.idle >= IDLE
        if self.revives and dead.any():
            self._revive(dead, parts)

    def _revive(self, dead: Tensor, parts: Tensor) -> None:
        """Replaces the code vectors in `dead` (n,k) by random ones of the first worker's parts
        (P,n,D/n), each of which is used once: of two equal vectors, neither would die. Further
        codes stay dead until the next update."""
        picked = torch.randperm(len(parts), device=parts.device)[: self.each]
        pool = torch.zeros_like(self.sums)
        pool[:, : len(picked)] = parts[picked].transpose(0, 1)
        most = of_first_worker(torch.tensor(len(picked), device=parts.device))
        place = dead.cumsum(dim=1) - 1  # of each dead code
        dead = dead & (place < most)
        place = place.clamp(min=0)[..., None].expand_as(pool)
        fresh = of_first_worker(pool).gather(1, place)  # (n,k,D/n)
        self.sums.copy_(torch.where(dead[..., None], fresh, self.sums))
        self.counts.masked_fill_(dead, 1)
        self.idle.masked_fill_(dead, 0)


def _looked_up(codebook: Tensor, digits: Tensor) -> Tensor:
    """codebook (n,k,d), digits (...,n) -> (...,n,d)."""
    slices, each, _ = codebook.shape
    rows = digits + each * torch.arange(slices, device=digits.device)
    return codebook.flatten(0, 1)[rows]

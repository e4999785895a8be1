"""Rules that end the refinement of a sentence early. They need only its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# fairseq's options need members whose names equal their values.


class RefinementStop(StrEnum):
    """The names of the stopping rules."""

    none = "none"
    equality = "equality"
    jaccard = "jaccard"
    unchanged = "unchanged"


@dataclass(frozen=True)
class StoppingRule:
    """Ends when the first of the last `window` outputs recurs among the others."""

    window: int
    in_order: bool = True
    """If False, compares bags of words, so that equal means a Jaccard index of 1."""

    def ended(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """outputs (BN,P,T) of P passes, oldest first, mask (BN,T) of their tokens -> (BN,) bool."""
        if outputs.size(1) < self.window:
            return mask.new_zeros(len(mask))
        last = outputs[:, -self.window :].masked_fill(~mask[:, None], -1)
        if not self.in_order:
            last = last.sort(dim=2).values
        return (last[:, 1:] == last[:, :1]).all(dim=2).any(dim=1)


STOPPING_RULES = {
    RefinementStop.none: None,
    RefinementStop.equality: StoppingRule(window=5),
    RefinementStop.jaccard: StoppingRule(window=5, in_order=False),
    RefinementStop.unchanged: StoppingRule(window=2),
}
"""`equality` and `jaccard` are from the code of Lee et al. (arXiv 1802.06901), whose threshold for
the Jaccard index is 1; `unchanged` is fairseq's."""

"""A named term of the loss."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LossTerm:
    """A term of the loss. The criterion adds up weight x sum and divides by target tokens."""

    name: str
    sum: Tensor
    """() summed over `count` items, in nats."""
    count: int | Tensor
    """Number of tokens or sentences in the sum; the logged mean divides by it."""
    weight: float = 1.0
    in_nats: bool = True
    """If False, `sum` is a number of items or a distance, and its mean is logged as it is."""

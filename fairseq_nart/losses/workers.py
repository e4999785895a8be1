"""Values that the worker processes of a training share."""

from torch import Tensor, distributed


def total(x: Tensor) -> Tensor:
    """The sum of x over all workers, in place."""
    if distributed.is_initialized():
        distributed.all_reduce(x)
    return x


def of_first_worker(x: Tensor) -> Tensor:
    """The first worker's x on all workers, in place."""
    if distributed.is_initialized():
        distributed.broadcast(x, 0)
    return x

"""Word-level losses."""

from torch import Tensor
from torch.nn import functional as F


def token_cross_entropy(
    emissions: Tensor, target: Tensor, mask: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """-sum log softmax(emissions)[target] over real positions, in nats, computed in fp32.

    emissions (B,T,V), target (B,T), mask (B,T) bool -> (). With label smoothing e the target
    distribution is (1-e) one-hot + e uniform over the vocabulary (arXiv 1512.00567, section 7).
    """
    return F.cross_entropy(
        emissions.flatten(0, 1).float(),
        target.masked_fill(~mask, -100).flatten(),
        ignore_index=-100,
        reduction="sum",
        label_smoothing=label_smoothing,
    )

"""Fine-tuning losses: a teacher's distributions and REINFORCE (arXiv 1711.02281, section 4)."""

import torch
from torch import Tensor

from fairseq_nart.losses.workers import total

REWARD_SCALE = 0.1
"""From the code of Gu et al."""


def reverse_cross_entropy(emissions: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """L_RKL = sum_i sum_w p(y_i = w) (-log p_teacher(y_i = w)), per sentence.

    emissions (B,T,V), the teacher's log-probabilities (B,T,V), mask (B,T) -> (B,), in nats. This is
    the reverse Kullback-Leibler divergence plus the entropy of p.
    """
    probs = emissions.softmax(dim=2, dtype=torch.promote_types(emissions.dtype, torch.float32))
    costs = -(probs * teacher).sum(dim=2)
    return costs.masked_fill(~mask, 0.0).sum(dim=1)


def reinforce(log_probs: Tensor, costs: Tensor, baseline: Tensor) -> Tensor:
    """() REINFORCE term with the gradient of the samples' expected cost; all arguments (B,).

    Gradients flow only through the samples' `log_probs`. The cost in excess of `baseline` is
    centred over the batch, of all workers, and scaled, as in the released code, so a batch of one
    sentence has no gradient.
    """
    excess = (costs - baseline).detach()
    summed, count = total(torch.stack([excess.sum(), excess.new_tensor(len(excess))]))
    weights: Tensor = REWARD_SCALE * (excess - summed / count)
    return (weights * log_probs).sum()

"""A discriminator of two kinds of vectors, trained against what produces one of them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Discriminator(nn.Module):
    """Two linear layers that tell real vectors from others."""

    def __init__(self, dim: int, width: int, scale: float = 1.0) -> None:
        """scale: the learning rate, as a multiple of the optimizer's.

        Parameters are stored divided by it. So Adam, whose steps do not depend on the size of
        gradients, changes the layers `scale` times as much as others, with any scheduler and in
        any training of fairseq, without a second optimizer.
        """
        super().__init__()
        self.scale = scale
        self.hidden = nn.Linear(dim, width)
        self.output = nn.Linear(width, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.div_(scale)

    def forward(self, vectors: Tensor) -> Tensor:
        """vectors (n,D) -> (n,), logits of being real."""
        hidden = F.relu(self._applied(self.hidden, vectors))
        return self._applied(self.output, hidden).squeeze(1)

    def _applied(self, layer: nn.Linear, vectors: Tensor) -> Tensor:
        return F.linear(vectors, self.scale * layer.weight, self.scale * layer.bias)

    def loss(self, others: Tensor, real: Tensor) -> Tensor:
        """others (n,D), real (m,D) -> (), -sum log f(real) - sum log(1 - f(others)), in nats."""
        fooled, known = F.softplus(self(others).float()), F.softplus(-self(real).float())
        return fooled.sum() + known.sum()


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):  # type: ignore[no-untyped-def]
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return -ctx.factor * gradient, None


def reversed_gradient(x: Tensor, factor: float) -> Tensor:
    """Returns x; its gradient is multiplied by -factor (arXiv 1505.07818)."""
    result: Tensor = _Reversed.apply(x, factor)  # type: ignore[no-untyped-call]
    return result

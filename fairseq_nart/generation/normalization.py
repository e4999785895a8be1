"""The normalization rules that turn log-probabilities into sentence scores."""

from typing import Any, TypeVar

from fairseq_nart.errors import UserError

Array = TypeVar("Array", bound=Any)
"""A tensor, or an array of NumPy."""

DEFAULT_ALPHA = {"gnmt": 0.6, "mean": None, "sum": None, "reward": 2.0}
"""The normalization rules and their default alpha; None if the rule has no alpha."""


def alpha_of(rule: str, given: float | None) -> float:
    """The `given` alpha, or the rule's default. UserError if the rule has no alpha."""
    default = DEFAULT_ALPHA[rule]
    if default is None and given is not None:
        raise UserError(
            f"--rescore-alpha has no effect with --rescore-normalization {rule}: leave it out"
        )
    return (default or 0.0) if given is None else given


def normalize(total: Array, length: Array, rule: str, alpha: float) -> Array:
    """Sentence scores from summed log-probabilities and lengths L, all of the same shape.

    `gnmt`: sum / ((5 + L) / 6)^alpha (Wu et al. 2016, arXiv 1609.08144, eq. 14), `mean`: sum / L,
    `sum`: the sum, `reward`: sum + alpha L (Murray and Chiang 2018, arXiv 1808.10006).
    L includes the EOS.
    """
    score: Array
    if rule == "gnmt":
        score = total / ((5 + length) / 6) ** alpha
    elif rule == "mean":
        score = total / length
    elif rule == "sum":
        score = total
    elif rule == "reward":
        score = total + alpha * length
    else:
        raise UserError(f"unknown normalization {rule!r}: one of {', '.join(DEFAULT_ALPHA)}")
    return score

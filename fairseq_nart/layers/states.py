"""Data passed between the parts of a system. B batch, S source, T target, V vocabulary, D width.

A batch has B·N rows; the N candidates of a sentence are adjacent.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from fairseq_nart.layers import exporting


@dataclass(frozen=True)
class Tensors:
    """A dataclass of tensors. `map` changes all its fields, those of subclasses included."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `change` applied to every tensor."""
        values = {x.name: getattr(self, x.name) for x in fields(self)}
        changed = {name: change(x) for name, x in values.items() if isinstance(x, Tensor)}
        return replace(self, **changed)


@dataclass(frozen=True)
class EncoderStates(Tensors):
    """A batch of encoded sources; padding may be on either side. All fields are (B,S,...)."""

    output: Tensor
    """(B,S,D) output of the last encoder layer."""
    embeddings: Tensor
    """(B,S,D) scaled source embeddings without positions: what decoder inputs copy."""
    mask: Tensor
    """(B,S) bool, True on real tokens, the EOS included."""
    tokens: Tensor
    """(B,S) source token ids."""
    memory: Tensor | None = field(default=None, kw_only=True)
    """(B,S,2LD) keys and values of every decoder layer, in an export instead of `output`."""

    @classmethod
    def in_graph(
        cls,
        memory: Tensor,
        source_mask: Tensor,
        embeddings: Tensor | None = None,
        **more: Tensor,
    ) -> Self:
        """The states in an export's decoder, with the fields of a subclass in `more`; the other
        fields are unused."""
        unused = memory
        embeddings = unused if embeddings is None else embeddings
        return cls(unused, embeddings, source_mask, unused, memory=memory, **more)

    @property
    def lengths(self) -> Tensor:
        """(B,) number of real source tokens, the EOS included."""
        return self.mask.sum(dim=1)

    def select(self, rows: Tensor | slice) -> Self:
        """The sentences at `rows`, in that order; rows may repeat."""
        return self.map(lambda x: x[rows])

    def right_padded(self) -> Self:
        """A copy with the real tokens first."""
        order = (~self.mask).int().argsort(dim=1, stable=True)  # (B,S)
        return self.map(
            lambda x: x.gather(1, order.view(*order.shape, *[1] * (x.dim() - 2)).expand_as(x))
        )

    def repeat_to(self, rows: int) -> Self:
        """Repeats each sentence equally often, for `rows` rows in total."""
        sentences = self.mask.size(0)
        if rows == sentences and not exporting.active():
            return self
        return self.select(torch.arange(rows, device=self.mask.device) * sentences // rows)


@dataclass(frozen=True)
class Proposal(Tensors):
    """N targets to decode for each sentence. All fields are (B,N,...)."""

    lengths: Tensor
    """(B,N) number of tokens, the EOS included."""
    valid: Tensor
    """(B,N) bool, False where no such target exists."""

    def select(self, sentences: slice, columns: list[int]) -> Self:
        """The targets in `columns` of `sentences`."""
        return self.map(lambda x: x[sentences][:, columns])


@dataclass(frozen=True)
class Decoded:
    """The output of a system, before cleaning: N targets of each sentence, B·N rows."""

    tokens: Tensor
    """(BN,T) token ids; arbitrary at padding."""
    log_probs: Tensor
    """(BN,T) log-probability of each token in nats, as the system's distribution factorises."""
    mask: Tensor
    """(BN,T) bool, True on the output's tokens."""
    valid: Tensor
    """(B,N) bool, False for rows without a target."""
    iterations: Tensor | int = 1
    """(BN,) number of decoder passes of each row, or one number for all."""

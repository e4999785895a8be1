"""What passes between the rooms. B batch, S source, T target, V vocabulary, D width.

N candidates of a sentence are N rows in a row of the B N rows of a batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EncoderStates:
    """A batch of encoded sources; padding may stand on either side."""

    output: Tensor
    """(B,S,D) output of the last encoder layer."""
    embeddings: Tensor
    """(B,S,D) scaled source embeddings without positions: what decoder inputs copy."""
    mask: Tensor
    """(B,S) bool, True on real tokens, the end of sentence included."""

    @property
    def lengths(self) -> Tensor:
        """(B,) real source tokens, the end of sentence counted."""
        return self.mask.sum(dim=1)

    def select(self, rows: Tensor | slice) -> "EncoderStates":
        """The sentences at `rows` (any number, in that order; a row may repeat)."""
        return EncoderStates(self.output[rows], self.embeddings[rows], self.mask[rows])

    def right_padded(self) -> "EncoderStates":
        """The same with the real tokens first."""
        order = (~self.mask).int().argsort(dim=1, stable=True)  # (B,S)
        wide = order[:, :, None].expand_as(self.output)
        parts = (self.output.gather(1, wide), self.embeddings.gather(1, wide))
        return EncoderStates(*parts, self.mask.gather(1, order))

    def repeat_to(self, rows: int) -> "EncoderStates":
        """Each sentence as many times in a row as makes `rows` of them."""
        times = rows // len(self.mask)
        index = torch.arange(len(self.mask), device=self.mask.device).repeat_interleave(times)
        return self if times == 1 else self.select(index)


@dataclass(frozen=True)
class Proposal:
    """N targets that are to be decoded for each sentence."""

    lengths: Tensor
    """(B,N) tokens of each, the end of sentence counted."""
    valid: Tensor
    """(B,N) bool, False where there is no such target."""
    fertilities: Tensor | None = None
    """(B,N,S) copies of each source token, where a system makes its targets of them."""

    def select(self, sentences: slice, columns: list[int]) -> "Proposal":
        """Some targets of some sentences."""
        copies = self.fertilities
        return Proposal(
            self.lengths[sentences][:, columns],
            self.valid[sentences][:, columns],
            None if copies is None else copies[sentences][:, columns],
        )


@dataclass(frozen=True)
class Decoded:
    """What a system says, before cleaning: N targets of each sentence, B N rows."""

    tokens: Tensor
    """(BN,T) token ids; anything at padding."""
    log_probs: Tensor
    """(BN,T) log-probability of each token in nats, as the system's own distribution factorises."""
    mask: Tensor
    """(BN,T) bool, True on what is said."""
    valid: Tensor
    """(B,N) bool, False where a row means nothing."""
    iterations: Tensor | int = 1
    """(BN,) passes of the decoder that each row took, or one number for all."""


@dataclass(frozen=True)
class LossTerm:
    """One named summand of the loss. The criterion weighs the sums and divides by target tokens."""

    name: str
    sum: Tensor
    """() summed over its `count` items, in nats."""
    count: int | Tensor
    """Tokens or sentences summed over: what the logged mean of the term divides by."""
    weight: float = 1.0
    in_nats: bool = True
    """False: `sum` is a number of items, logged as their share."""

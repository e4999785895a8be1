"""The CRF's lattice of one sentence, and two paths through it: argmax and Viterbi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fairseq_nart.errors import UserError
from fairseq_nart.runtime import search
from fairseq_nart.runtime.by_length import Runtime
from fairseq_nart.runtime.candidates import finish
from fairseq_nart.runtime.states import Decoded, Ints

if TYPE_CHECKING:
    from fairseq_nart.runtime.translator import Translator

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Path:
    """One token per position."""

    name: str
    columns: list[int]
    """(T,) index among the shown candidates."""
    text: str
    """The translation, up to the first end of sentence."""
    log_prob: float
    """In nats, normalized over all paths through the K candidates."""


@dataclass(frozen=True)
class Lattice:
    """T positions, with the C shown of the K candidates at each, best emission first."""

    source: str
    candidates: int
    """K"""
    tokens: list[list[str]]
    """(T,C)"""
    ranks: list[list[int]]
    """(T,C) rank among the K, from 0; the column, unless Viterbi took a candidate ranked below."""
    emissions: Floats
    """(T,C) log-probabilities in nats: over the whole vocabulary, or of an exported model over the
    K candidates."""
    transitions: Floats
    """(T-1,C,C) score of a candidate (last axis) after one of the previous position, in nats."""
    argmax: Path
    viterbi: Path

    @property
    def differing(self) -> list[int]:
        """Positions, from 0, at which the two paths take different tokens."""
        pairs = zip(self.argmax.columns, self.viterbi.columns, strict=True)
        return [position for position, (one, other) in enumerate(pairs) if one != other]


def decode_lattice(model: Translator, line: str, shown: int) -> Lattice:
    """The lattice of the predicted target length, with the `shown` best candidates per position.

    If Viterbi's candidate is ranked below, it replaces the last. UserError for a model without
    `has_crf`, for an empty line, and if `shown` is below 2.
    """
    if not model.has_crf:
        raise UserError(f"{model.name} has no CRF, so it has no lattice")
    if not line.strip():
        raise UserError("the sentence is empty: give one with words")
    if shown < 2:
        raise UserError(f"at least 2 candidates must be shown, not {shown}")
    system = cast(Runtime, model.engine.system)
    source = system.encode(np.array([model.text.encode(line, 1)]))
    length = system.predicted(source)
    mask = np.ones((1, length[0]), bool)
    outputs = system.first_pass(source, mask)
    ids, scores, arrivals = (outputs[name] for name in ("ids", "scores", "arrivals"))
    order = np.argsort(-scores, axis=2, kind="stable")  # a graph does not sort its candidates
    ids, scores = (np.take_along_axis(x, order, 2) for x in (ids, scores))
    steps = np.arange(length[0] - 1)[:, None, None]
    arrivals = arrivals[:, steps, order[0, 1:, :, None], order[0, :-1, None]]
    viterbi = search.best_path(scores, arrivals, length)
    slots = np.tile(np.arange(min(shown, ids.shape[2])), (length[0], 1))  # (T,C)
    slots[:, -1] = np.maximum(slots[:, -1], viterbi[0])

    def path(name: str, taken: Ints) -> Path:
        tokens = np.take_along_axis(ids, taken[..., None], 2)[..., 0]
        log_probs = search.log_probs(scores, arrivals, taken[:, None], length)[:, 0]
        decoded = Decoded(tokens, log_probs, mask, np.ones((1, 1), bool))
        ((done,),) = finish(decoded, [False], model.engine.cleaning)
        return Path(
            name=name,
            columns=(slots == taken[0, :, None]).argmax(axis=1).tolist(),
            text=model.text.decode(done.tokens),
            log_prob=float(log_probs.sum()),
        )

    among = scores[0] - search.log_sum_exp(scores[0])[:, None]
    pairs = np.arange(length[0] - 1)[:, None, None]
    transitions = arrivals[0][pairs, slots[1:, None, :], slots[:-1, :, None]]
    symbols = model.text.symbols
    return Lattice(
        source=line.strip(),
        candidates=ids.shape[2],
        tokens=[[symbols[i] for i in row] for row in np.take_along_axis(ids[0], slots, 1)],
        ranks=slots.tolist(),
        emissions=np.take_along_axis(among, slots, 1).astype(np.float64),
        transitions=transitions.astype(np.float64),
        argmax=path("argmax", np.zeros_like(viterbi)),  # the largest emission comes first
        viterbi=path("Viterbi", viterbi),
    )

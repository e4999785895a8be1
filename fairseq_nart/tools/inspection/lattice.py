"""What the CRF sees of one sentence, and the two ways through it: argmax and Viterbi."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fairseq_nart.crf import chain
from fairseq_nart.generation.clean import finish
from fairseq_nart.hub import Translator
from fairseq_nart.layers.lengths import candidate_window

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Path:
    """One token a position."""

    name: str
    columns: list[int]
    """(T,) which of the shown candidates."""
    text: str
    """What it says, up to the first end of sentence."""
    log_prob: float
    """In nats, among all paths through the K candidates."""


@dataclass(frozen=True)
class Lattice:
    """T positions and, of the K candidates at each, the C that are shown, best emission first."""

    source: str
    candidates: int
    """K"""
    tokens: list[list[str]]
    """(T,C)"""
    ranks: list[list[int]]
    """(T,C) place among the K, from 0: the column, but where Viterbi took a worse candidate."""
    emissions: Floats
    """(T,C) log-probabilities over the whole vocabulary, in nats."""
    transitions: Floats
    """(T-1,C,C) score of a candidate (last axis) after one of the position before, in nats."""
    argmax: Path
    viterbi: Path

    @property
    def differing(self) -> list[int]:
        """Positions, from 0, at which the two paths take different tokens."""
        pairs = zip(self.argmax.columns, self.viterbi.columns, strict=True)
        return [position for position, (one, other) in enumerate(pairs) if one != other]


@torch.no_grad()
def look(translator: Translator, sentence: str, shown: int, length: int | None = None) -> Lattice:
    """Decodes `sentence` with a CRF model, as its engine would, and keeps what was weighed.

    `shown` of the candidates are kept per position; Viterbi's is always among them, in the last
    place where it is a worse one. `length` counts target tokens with the end of sentence; None
    means the predicted one. ValueError where that is not 1 to the longest target, where `shown`
    is below 2, or where the sentence is empty.
    """
    model, task = translator.model, translator.task
    if not sentence.strip():
        raise ValueError("the sentence is empty")
    if shown < 2:
        raise ValueError(f"at least 2 candidates must be shown, not {shown}")
    if length is not None and not 1 <= length <= model.longest_target:
        raise ValueError(f"--length must be 1 to {model.longest_target}, not {length}")
    ((_, source),) = translator.batches([sentence], 1)
    states = model.encode(source)
    predicted, _ = candidate_window(model.predict_lengths(states), 1, model.longest_target)
    lengths = predicted if length is None else predicted.new_tensor([[length]])
    features, emissions, mask = model.start_decoding(states, lengths)
    ids, scores, moves = model.crf.lattice(emissions, mask, model.crf_states(features))
    _, viterbi = chain.best_path(scores, moves, mask)
    argmax = torch.zeros_like(viterbi)  # the lattice has the largest emission first

    shown = min(shown, ids.shape[2])
    slots = torch.arange(shown, device=ids.device).repeat(ids.shape[1], 1)  # (T,C)
    slots[:, -1] = torch.maximum(slots[:, -1], viterbi[0])

    def path(name: str, taken: torch.Tensor) -> Path:
        tokens = ids.gather(2, taken.unsqueeze(2)).squeeze(2)
        said = finish(
            tokens,
            torch.zeros_like(tokens).float(),
            mask,
            eos=task.target_dictionary.eos(),
            pad=task.target_dictionary.pad(),
            dedup=False,
            longest=model.longest_target,
        )
        return Path(
            name=name,
            columns=(slots == taken[0, :, None]).int().argmax(dim=1).tolist(),
            text=translator.text(said.tokens[0][said.mask[0]]),
            log_prob=float(chain.log_likelihood(scores, moves, taken, mask)),
        )

    named = task.target_dictionary.symbols
    pairs = torch.arange(len(slots) - 1, device=ids.device)[:, None, None]
    log_probs = scores - emissions.logsumexp(dim=2, keepdim=True)
    return Lattice(
        source=sentence.strip(),
        candidates=ids.shape[2],
        tokens=[[named[i] for i in row] for row in ids[0].gather(1, slots).tolist()],
        ranks=slots.tolist(),
        emissions=log_probs[0].gather(1, slots).double().cpu().numpy(),
        transitions=moves[0][pairs, slots[:-1, :, None], slots[1:, None, :]].double().cpu().numpy(),
        argmax=path("argmax", argmax),
        viterbi=path("Viterbi", viterbi),
    )

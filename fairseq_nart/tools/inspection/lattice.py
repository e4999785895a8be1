"""Decodes one sentence with a checkpoint and keeps the CRF's lattice."""

from dataclasses import replace
from typing import Any

import torch

from fairseq_nart.errors import UserError
from fairseq_nart.generation.clean import finish
from fairseq_nart.hub import Translator
from fairseq_nart.runtime.lattice import Lattice, Path


@torch.no_grad()
def decode_lattice(
    translator: Translator, sentence: str, shown: int, length: int | None = None
) -> Lattice:
    """Decodes `sentence` with a CRF model, as its engine does, and returns the lattice.

    Keeps the `shown` best candidates per position; if Viterbi's is ranked below, it replaces the
    last. `length` is in target tokens, end of sentence included; None means the predicted one.
    UserError if it is not 1 to the longest target, if `shown` is below 2 or the sentence is empty.
    """
    model, task = translator.model, translator.task
    if not sentence.strip():
        raise UserError("the sentence is empty: give one with words")
    if shown < 2:
        raise UserError(f"at least 2 candidates must be shown, not {shown}")
    if length is not None and not 1 <= length <= model.longest_target:
        raise UserError(f"--length must be 1 to {model.longest_target}, not {length}")
    ((_, source),) = translator.batches([sentence], 1)
    states = model.encode(source)
    options: Any = translator.engine.options
    predicted = model.propose(states, replace(options, length_candidates=1)).lengths
    lengths = predicted if length is None else predicted.new_tensor([[length]])
    features, emissions, mask = model.start_decoding(states, lengths)
    full = model.crf.lattice(emissions, mask, model.head.states(features))
    ids, scores, transitions = full.ids, full.emissions, full.transitions
    _, viterbi = full.best_path()
    argmax = torch.zeros_like(viterbi)  # the lattice has the largest emission first

    shown = min(shown, ids.shape[2])
    slots = torch.arange(shown, device=ids.device).repeat(ids.shape[1], 1)  # (T,C)
    slots[:, -1] = torch.maximum(slots[:, -1], viterbi[0])

    def path(name: str, taken: torch.Tensor) -> Path:
        tokens = full.tokens(taken)
        output = finish(
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
            text=translator.text(output.tokens[0][output.mask[0]]),
            log_prob=float(full.log_likelihood(taken)),
        )

    symbols = task.target_dictionary.symbols
    pairs = torch.arange(len(slots) - 1, device=ids.device)[:, None, None]
    log_probs = scores - emissions.logsumexp(dim=2, keepdim=True)
    return Lattice(
        source=sentence.strip(),
        candidates=ids.shape[2],
        tokens=[[symbols[i] for i in row] for row in ids[0].gather(1, slots).tolist()],
        ranks=slots.tolist(),
        emissions=log_probs[0].gather(1, slots).double().cpu().numpy(),
        transitions=transitions[0][pairs, slots[:-1, :, None], slots[1:, None, :]]
        .double()
        .cpu()
        .numpy(),
        argmax=path("argmax", argmax),
        viterbi=path("Viterbi", viterbi),
    )

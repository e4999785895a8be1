"""Checks an exported folder against the model that it was made from."""

from pathlib import Path

import torch

from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.engine import Hypothesis as PluginHypothesis
from fairseq_nart.hub import Translator
from fairseq_nart.runtime.candidates import Hypothesis
from fairseq_nart.runtime.translator import load

SENTENCES = 8
TOLERANCE = 1e-3
"""Largest difference of scores in float32, in nats."""


def check(translator: Translator, folder: Path, precision: str) -> None:
    """Decodes a few random sentences with both, alone and in a batch, by own and teacher's scores.

    UserError if in float32 the best translations differ, unless their scores are tied. In int8 they
    may, so the folder must only be able to decode.
    """
    whole = translator.engine
    sources = _sources(translator)
    for rescorer in {None, whole.rescorer}:
        exported = load(folder, threads=1, rescore=rescorer is not None).engine
        together = exported(sources)
        alone = [exported([source])[0] for source in sources]
        if precision == "float32":
            engine = Engine(
                whole.model, eos=whole.eos, pad=whole.pad, options=whole.options, rescorer=rescorer
            )
            for source, *both in zip(sources, together, alone, strict=True):
                (theirs,) = engine(torch.tensor([source], device=translator.device))
                for hypotheses in both:
                    _compare(source, hypotheses[0], theirs)


def _compare(source: list[int], ours: Hypothesis, theirs: list[PluginHypothesis]) -> None:
    """UserError if `ours` is not the best of `theirs`, or has another score."""
    scores = {tuple(one.tokens.tolist()): one.score for one in theirs}
    best = theirs[0].score
    known = scores.get(tuple(ours.tokens), float("-inf"))
    if max(abs(known - best), abs(ours.score - best)) > TOLERANCE:
        raise UserError(
            f"the exported graphs do not compute what the model computes: for the token ids "
            f"{source} they give {ours.tokens} with score {ours.score:.4f}, the model "
            f"{theirs[0].tokens.tolist()} with {best:.4f}. Please report this, with the versions "
            "of torch and onnxruntime"
        )


def _sources(translator: Translator) -> list[list[int]]:
    """Token ids of `SENTENCES` random sentences of different lengths."""
    dictionary, generator = translator.task.source_dictionary, torch.Generator().manual_seed(1)
    first, last = dictionary.nspecial, len(dictionary)
    most = min(20, translator.model.longest_source - 1)
    sources = []
    for number in range(SENTENCES):
        length = 1 + number * (most - 1) // (SENTENCES - 1)
        words = torch.randint(first, last, (length,), generator=generator).tolist()
        sources.append([*words, dictionary.eos()])
    return sources

"""Chooses the length penalty of a teacher's search by BLEU on the validation set."""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from fairseq.data import Dictionary
from tqdm import tqdm

from fairseq_nart.data.splits import Split
from fairseq_nart.errors import UserError
from fairseq_nart.tools.distillation.backends import Backend
from fairseq_nart.tools.distillation.data import bleu_of
from fairseq_nart.tools.distillation.translate import batches_by_tokens

PENALTIES = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Values of --lenpen to compare."""


def compare(
    split: Split,
    left_out: Collection[int],
    backend: Backend,
    dictionary: Dictionary,
    max_tokens: int,
) -> dict[str, Any]:
    """Translates `split`, but the sentences `left_out`, with each of `PENALTIES`.

    Returns {"best": a penalty, "BLEU": {penalty: BLEU}} and prints it. UserError if the split has
    no targets.
    """
    if split.target is None:
        raise UserError(f"--lenpen auto needs targets of {split.name}: give a number instead")
    sizes = np.asarray(split.source.sizes)
    indices = [i for i, size in enumerate(sizes) if size > 1 and i not in left_out]
    batches = list(batches_by_tokens(indices, sizes, max_tokens))
    scores: dict[float, float] = {}
    for penalty in tqdm(PENALTIES, desc=f"length penalty on {split.name}", leave=False):
        backend.set_lenpen(penalty)
        sources = (torch.stack([split.source[i] for i in batch]).long() for batch in batches)
        lines: dict[int, str] = {}
        for batch, texts in zip(batches, backend.translate(sources), strict=True):
            lines |= zip(batch, texts, strict=True)
        scores[penalty] = bleu_of(split.target, lines, dictionary)[0] or 0.0
    best = max(scores, key=scores.__getitem__)
    compared = ", ".join(f"{bleu} with {penalty:g}" for penalty, bleu in scores.items())
    print(f"--lenpen {best:g} is the best on {split.name}: BLEU {compared}")
    return {"best": best, "BLEU": {str(penalty): bleu for penalty, bleu in scores.items()}}

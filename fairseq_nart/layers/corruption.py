"""Corrupted references that a refining decoder learns to mend (Lee et al. 2018, 1802.06901)."""

import torch
from torch import Tensor

REPLACE, DUPLICATE, SWAP = range(3)


def corrupt(tokens: Tensor, words: Tensor, share: float, first: int, vocab_size: int) -> Tensor:
    """tokens (B,T), words (B,T) bool, True on what may change -> (B,T), as many tokens as before.

    Of a sentence's w words max(1, floor(share w)) are picked, and one after the other, in random
    order, replaced by a random one of first..vocab_size-1, written over the next word or swapped
    with it, with equal chance; a word with no word behind it is replaced.
    """
    out, rows = tokens.clone(), torch.arange(len(tokens), device=tokens.device)
    order = torch.rand(tokens.shape, device=tokens.device).masked_fill(~words, 2.0).argsort(dim=1)
    picked = (share * words.sum(dim=1)).long().clamp(min=1)  # (B,)
    kinds = torch.randint(3, tokens.shape, device=tokens.device)
    random_words = torch.randint(first, vocab_size, tokens.shape, device=tokens.device)
    for turn in range(max(1, int(share * tokens.size(1)))):
        here = order[:, turn]  # (B,)
        behind = (here + 1).clamp(max=tokens.size(1) - 1)
        active = words[rows, here] & (turn < picked)
        replaces = (kinds[:, turn] == REPLACE) | ~words[rows, behind] | (behind == here)
        this, that = out[rows, here], out[rows, behind]
        kept = torch.where(kinds[:, turn] == SWAP, that, this)
        out[rows, behind] = torch.where(active & ~replaces, this, that)
        changed = torch.where(replaces, random_words[:, turn], kept)
        out[rows, here] = torch.where(active, changed, this)
    return out

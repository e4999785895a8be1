"""Corrupts references for denoising training (Lee et al. 2018, arXiv 1802.06901)."""

import torch
from torch import Tensor

REPLACE, DUPLICATE, SWAP = range(3)


def corrupt(tokens: Tensor, words: Tensor, share: float, first: int, vocab_size: int) -> Tensor:
    """tokens (B,T), words (B,T) bool, True on tokens that may change -> (B,T) corrupted tokens.

    Picks max(1, floor(share w)) of a sentence's w words. One after another, in random order, each
    is replaced by a random token of first..vocab_size-1, copied over the next word, or swapped with
    it, with equal probability. A word without a next word is replaced.
    """
    out, rows = tokens.clone(), torch.arange(len(tokens), device=tokens.device)
    order = torch.rand(tokens.shape, device=tokens.device).masked_fill(~words, 2.0).argsort(dim=1)
    picked = (share * words.sum(dim=1)).long().clamp(min=1)  # (B,)
    kinds = torch.randint(3, tokens.shape, device=tokens.device)
    random_words = torch.randint(first, vocab_size, tokens.shape, device=tokens.device)
    for step in range(max(1, int(share * tokens.size(1)))):
        place = order[:, step]  # (B,)
        following = (place + 1).clamp(max=tokens.size(1) - 1)
        active = words[rows, place] & (step < picked)
        replace = (kinds[:, step] == REPLACE) | ~words[rows, following] | (following == place)
        word, next_word = out[rows, place], out[rows, following]
        kept = torch.where(kinds[:, step] == SWAP, next_word, word)
        out[rows, following] = torch.where(active & ~replace, word, next_word)
        changed = torch.where(replace, random_words[:, step], kept)
        out[rows, place] = torch.where(active, changed, word)
    return out

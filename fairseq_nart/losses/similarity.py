"""Similarity regularisation of neighbouring states (arXiv 1902.10245)."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity


def neighbour_similarity(states: Tensor, embeddings: Tensor, mask: Tensor) -> Tensor:
    """L_sim = sum_t 1 + c_t (1 - cos(e_t, e_t+1)), over the T-1 pairs of real tokens, where c_t is
    cos(h_t, h_t+1) or 0 if that is less.

    states h and target embeddings e (B,T,D), mask (B,T) right-padded -> (), at least in fp32. Each
    pair adds 1 to 3, and 1 if its tokens are equal, whatever their states. No gradient flows into
    the embeddings. The limit is not from the paper: without it, the loss is least if each state is
    the opposite of the one before, which costs BLEU.
    """
    alike = _neighbours(states).clamp(min=0.0)
    differ = 1.0 - _neighbours(embeddings.detach())
    pairs = mask[:, 1:]  # the mask of a right-padded pair is that of its second token
    return (1.0 + alike * differ).masked_fill(~pairs, 0.0).sum()


def _neighbours(vectors: Tensor) -> Tensor:
    """(B,T,D) -> (B,T-1), the cosine of each vector and the next; 0 if one of them is zero."""
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return cosine_similarity(wide[:, :-1], wide[:, 1:], dim=2)

"""Linear-chain conditional random fields for parallel decoding (Sun et al. 2019).

The score of a target y given features x is the sum of its emissions s(x, y_i, i) and of the
transitions t(y_{i-1}, y_i) between neighbours; see https://arxiv.org/abs/1910.11555, section 3.
This package needs torch alone:

* :mod:`~fairseq_nart.crf.chain`: exact inference over K slots per position;
* :mod:`~fairseq_nart.crf.candidates`: which K tokens of the vocabulary fill the slots;
* :mod:`~fairseq_nart.crf.transitions`: static and dynamic low-rank transition scores;
* :mod:`~fairseq_nart.crf.lattice`: :class:`Lattice`, a batch of chains with inference methods;
* :mod:`~fairseq_nart.crf.layer`: :class:`LinearChainCRF`, the module that builds lattices.
"""

from fairseq_nart.crf import candidates, chain, lattice, layer, transitions
from fairseq_nart.crf.lattice import Lattice
from fairseq_nart.crf.layer import LinearChainCRF

__all__ = [
    "Lattice",
    "LinearChainCRF",
    "candidates",
    "chain",
    "lattice",
    "layer",
    "transitions",
]

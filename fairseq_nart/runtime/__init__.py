"""Translates with exported models. Needs NumPy, onnxruntime and sentencepiece, not torch.

>>> from fairseq_nart import runtime
>>> model = runtime.load("model")
>>> model.translate(["Ein Mann liest ein Buch."])
['A man is reading a book.']
"""

from fairseq_nart.runtime.lattice import Lattice
from fairseq_nart.runtime.translator import Translation, Translator, demo_folder, load

__all__ = ["Lattice", "Translation", "Translator", "demo_folder", "load"]

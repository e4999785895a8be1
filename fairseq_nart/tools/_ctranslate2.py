"""CTranslate2 as a way to run a teacher: what distillation and benchmark share of it."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_nart.tools.distillation.options import Search

if TYPE_CHECKING:  # brings torch, which a process that only translates goes without
    from fairseq_nart.tools.distillation.teacher import Teacher

INSTALL = "pip install fairseq-nart[ctranslate2]"


def is_installed() -> bool:
    """Whether there is a CTranslate2."""
    return importlib.util.find_spec("ctranslate2") is not None


def convert(teacher: "Teacher", out: Path) -> None:
    """Makes `out` the converted model; any exception at all where CTranslate2 does not know it."""
    from ctranslate2.converters import FairseqConverter

    converter = FairseqConverter(str(teacher.path), str(teacher.data), *teacher.languages)
    converter.convert(str(out), force=True)


def submit(
    translator: Any, batch: list[list[str]], search: Search, limit: int, **options: Any
) -> list[Any]:
    """Results to wait for: fairseq's search for at most `limit` pieces.

    The pieces of `batch` come without the end of sentence, which the converted model adds itself.
    """
    results: list[Any] = translator.translate_batch(
        batch,
        beam_size=search.beam,
        length_penalty=search.lenpen,
        max_decoding_length=limit + 1,  # with the end of sentence
        suppress_sequences=[["<blank>"]],  # padding, which fairseq never chooses
        asynchronous=True,
        **options,
    )
    return results

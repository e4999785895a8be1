"""Running a teacher with CTranslate2, for distillation and the benchmark."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_nart.errors import UserError
from fairseq_nart.teacher.search import Search

if TYPE_CHECKING:  # imports torch, which a process that only translates does not need
    from fairseq_nart.tools._teacher import Teacher

INSTALL = "pip install ctranslate2"


def is_installed() -> bool:
    """Whether CTranslate2 is installed."""
    return importlib.util.find_spec("ctranslate2") is not None


def convert(teacher: "Teacher", out: Path, vocabulary_map: Path | None = None) -> None:
    """Converts the teacher to `out`; can raise any exception if CTranslate2 does not support it."""
    from ctranslate2.converters import FairseqConverter

    from fairseq_nart.compat import checkpoints, named_paths

    # It reads the checkpoint itself, after we have read it as plain data.
    if named := named_paths.clear_unneeded(checkpoints.load_checkpoint(teacher.path), ()):
        raise UserError(f"it would read {', '.join(named.values())}, which {teacher.path} names")
    converter = FairseqConverter(str(teacher.path), str(teacher.data), *teacher.languages)
    vmap = str(vocabulary_map) if vocabulary_map else None
    converter.convert(str(out), vmap=vmap, force=True)


def submit(
    translator: Any, batch: list[list[str]], search: Search, limit: int, **options: Any
) -> list[Any]:
    """Starts fairseq's search for at most `limit` subwords; returns asynchronous results.

    The sentences of `batch` have no end of sentence: the converted model adds it.
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

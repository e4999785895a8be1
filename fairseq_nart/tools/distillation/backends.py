"""Two engines for the teacher's beam search: fairseq and CTranslate2."""

import dataclasses
import itertools
import os
import shutil
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import fairseq
import torch
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor

from fairseq_nart.errors import UserError
from fairseq_nart.teacher.search import Search
from fairseq_nart.tools import _ctranslate2
from fairseq_nart.tools._teacher import Teacher


class Backend(Protocol):
    """An engine, with the attributes that a manifest records."""

    name: str
    version: str
    device: str
    compute_type: str

    def translate(self, batches: Iterable[Tensor]) -> Iterator[list[str]]:
        """Source tokens (B,S) without padding -> B segmented translations, batch by batch."""

    def set_lenpen(self, lenpen: float) -> None:
        """Changes the length penalty of the search."""


class FairseqBackend:
    """fairseq's own search, of one teacher or an ensemble, on a GPU if available."""

    name = "fairseq"
    version: str = fairseq.__version__
    compute_type = "float32"

    def __init__(self, teachers: Sequence[Teacher], search: Search) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dictionary = teachers[0].target
        models = [teacher.model.to(self.device) for teacher in teachers]
        for model in models:
            model.make_generation_fast_(beamable_mm_beam_size=search.beam, need_attn=False)
        self.generator = SequenceGenerator(
            models,
            self.dictionary,
            beam_size=search.beam,
            max_len_a=search.max_len_a,
            max_len_b=search.max_len_b,
            len_penalty=search.lenpen,
        )

    def translate(self, batches: Iterable[Tensor]) -> Iterator[list[str]]:
        """Source tokens (B,S) without padding -> B segmented translations, batch by batch."""
        for source in batches:
            tokens = source.to(self.device)
            lengths = torch.full((len(tokens),), tokens.size(1), device=self.device)
            net_input = {"src_tokens": tokens, "src_lengths": lengths}
            hypotheses = self.generator.generate([], {"net_input": net_input})
            yield [self._text(best["tokens"].tolist()) for best, *_ in hypotheses]

    def set_lenpen(self, lenpen: float) -> None:
        """Changes the length penalty of the search."""
        self.generator.len_penalty = lenpen

    def _text(self, tokens: list[int]) -> str:
        # Not Dictionary.string, which leaves out more than the end of sentence.
        return " ".join(self.dictionary[token] for token in tokens[:-1])


class CTranslate2Backend:
    """CTranslate2's search, on a GPU if available, else on all cores.

    Can raise any exception if CTranslate2 is not installed or cannot convert or run the teacher.
    """

    name = "ctranslate2"

    def __init__(
        self,
        teacher: Teacher,
        search: Search,
        compute_type: str,
        folder: Path,
        workers: int | None = None,
    ) -> None:
        """`folder` temporarily holds the converted model. `workers` are cores, by default all."""
        import ctranslate2

        self.version: str = ctranslate2.__version__
        self.device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        # One thread per worker: two threads in a worker are slower than one.
        self.workers = 1 if self.device == "cuda" else workers or len(os.sched_getaffinity(0))
        self.search = search
        self.fairseq = FairseqBackend([teacher], search)
        self.symbols: list[str] = teacher.source.symbols
        self.end = teacher.target.eos_word
        self.positions: int = teacher.model.max_decoder_positions()
        try:
            _ctranslate2.convert(teacher, folder)
            self.translator = ctranslate2.Translator(
                str(folder),
                device=self.device,
                inter_threads=self.workers,
                intra_threads=1,
                compute_type=compute_type,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.compute_type: str = self.translator.compute_type
        # GPU libraries are loaded only by the first translation, so translate once.
        list(self.translate([torch.tensor([[teacher.source.unk(), teacher.source.eos()]])]))

    def translate(self, batches: Iterable[Tensor]) -> Iterator[list[str]]:
        """As `Backend.translate`, but reads a few batches ahead, to keep the workers busy."""
        waiting: deque[tuple[Tensor, list[Any]]] = deque()
        for source in batches:
            waiting.append((source, self._submit(source)))
            if len(waiting) > 2 * self.workers:
                yield self._collect(*waiting.popleft())
        while waiting:
            yield self._collect(*waiting.popleft())

    def set_lenpen(self, lenpen: float) -> None:
        """Changes the length penalty of the search."""
        self.search = dataclasses.replace(self.search, lenpen=lenpen)
        self.fairseq.set_lenpen(lenpen)

    def _submit(self, source: Tensor) -> list[Any]:
        search = self.search
        limit = min(search.limit(source.size(1)), self.positions - 1)
        batch = [[self.symbols[token] for token in row[:-1]] for row in source.tolist()]
        return _ctranslate2.submit(self.translator, batch, search, limit, return_end_token=True)

    def _collect(self, source: Tensor, results: list[Any]) -> list[str]:
        outputs = [result.result().hypotheses[0] for result in results]
        # At the length limit fairseq scores EOS and CTranslate2 does not, which favours truncated
        # hypotheses. These few sentences are decoded again with fairseq.
        cut = [row for row, tokens in enumerate(outputs) if tokens[-1:] != [self.end]]
        texts = [" ".join(tokens[:-1]) for tokens in outputs]
        redone = self.fairseq.translate([source[cut]] if cut else [])
        for row, text in zip(cut, itertools.chain.from_iterable(redone), strict=True):
            texts[row] = text
        return texts


def open_backend(
    name: str,
    teachers: Sequence[Teacher],
    search: Search,
    compute_type: str | None,
    folder: Path,
    workers: int | None = None,
) -> Backend:
    """The backend called `name`; for "auto" CTranslate2 if it can run the teachers, else fairseq.

    Prints which one and why. `compute_type` (None: float32) is for CTranslate2 only; `folder` is
    its working folder, `workers` the cores it uses, by default all. UserError if CTranslate2 is
    asked for but cannot be used.
    """
    if name == "fairseq":
        why = "requested, or used before"
    elif len(teachers) > 1:
        why = f"CTranslate2 cannot run an ensemble, and --path names {len(teachers)} checkpoints"
    elif not _ctranslate2.is_installed():
        why = f"CTranslate2, several times as fast, is not installed: {_ctranslate2.INSTALL}"
    else:
        try:
            compute = compute_type or "float32"
            fast = CTranslate2Backend(teachers[0], search, compute, folder, workers)
        except Exception as error:
            reason = textwrap.shorten(str(error), 300) or type(error).__name__
            why = f"CTranslate2 cannot run {teachers[0].path}: {reason}"
        else:
            print(f"backend: ctranslate2 {fast.version}, {fast.compute_type}, {fast.device}")
            return fast
    if name == "ctranslate2":
        raise UserError(f"--backend ctranslate2: {why}")
    if compute_type:
        raise UserError(f"--compute-type {compute_type} is for --backend ctranslate2. {why}")
    print(f"backend: fairseq {FairseqBackend.version} ({why})")
    return FairseqBackend(teachers, search)

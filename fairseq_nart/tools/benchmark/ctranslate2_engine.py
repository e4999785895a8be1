"""CTranslate2's beam search over a converted teacher: the rival a student must beat."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fairseq_nart.tools.benchmark.clock import Part
from fairseq_nart.tools.benchmark.engines import Layout
from fairseq_nart.tools.benchmark.plan import SystemPlan
from fairseq_nart.tools.distillation.options import Search

FAIRSEQ_GENERATE = {"beam": 5, "max_len_a": 0.0, "max_len_b": 200}
"""Its defaults."""

INSTALL = "pip install fairseq-nart[ctranslate2]"


def is_installed() -> bool:
    """Whether there is a CTranslate2."""
    return importlib.util.find_spec("ctranslate2") is not None


def convert(checkpoint: Path, data: Path, out: Path) -> None:
    """Makes `out` the converted model; ValueError where CTranslate2 cannot convert it."""
    from ctranslate2.converters import FairseqConverter

    from fairseq_nart.tools.distillation.teacher import Teacher

    teacher = Teacher.load(checkpoint, data)
    try:
        FairseqConverter(str(checkpoint), str(data), *teacher.languages).convert(str(out))
    # The converter meets a model it does not know with any exception at all.
    except Exception as error:
        raise ValueError(f"CTranslate2 cannot convert {checkpoint}: {error}") from error


class CTranslate2Engine:
    """A converted model in `folder`."""

    name = "ctranslate2"
    libraries = ("ctranslate2",)
    lengths = None
    can_stream = True

    def __init__(self, plan: SystemPlan, folder: Path, device: str) -> None:
        self.folder, self.device, self.precision = folder, device, plan.precision
        self.search = Search(**{**FAIRSEQ_GENERATE, **plan.options})
        self.lay_out(Layout(plan.threads or 1))

    def lay_out(self, layout: Layout) -> None:
        import ctranslate2

        self.translator = ctranslate2.Translator(
            str(self.folder),
            device=self.device,
            compute_type=self.precision,
            inter_threads=layout.streams,
            intra_threads=layout.threads,
        )

    def encode(self, pieces: list[str]) -> list[str]:
        return pieces  # the converted model adds the end of sentence

    def decode(self, target: list[str]) -> list[str]:
        return target

    def translate(self, batches: Iterable[Sequence[list[str]]]) -> list[list[list[str]]]:
        waiting = []
        for batch in batches:
            limit = self.search.limit(1 + max(map(len, batch)))
            waiting.append(
                self.translator.translate_batch(
                    list(batch),
                    beam_size=self.search.beam,
                    length_penalty=self.search.lenpen,
                    max_decoding_length=limit + 1,  # with the end of sentence
                    suppress_sequences=[["<blank>"]],  # padding, which fairseq never chooses
                    asynchronous=True,
                )
            )
        return [[result.result().hypotheses[0] for result in results] for results in waiting]

    def predicted_lengths(self, batch: Sequence[list[str]]) -> list[int]:
        raise NotImplementedError("an autoregressive system predicts no length")

    def parts(self) -> list[Part]:
        return []

    def wait(self) -> None:
        """A translation that is there is finished."""

    def peak_bytes(self, work: Callable[[], object]) -> int | None:
        work()
        return None

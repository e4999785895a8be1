"""CTranslate2's beam search with a converted teacher: the baseline that a student must beat."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fairseq_nart.teacher.search import Search
from fairseq_nart.tools import _ctranslate2
from fairseq_nart.tools.benchmark.clock import Part
from fairseq_nart.tools.benchmark.engines import Layout
from fairseq_nart.tools.benchmark.plan import SystemPlan

FAIRSEQ_GENERATE = {"beam": 5, "max_len_a": 0.0, "max_len_b": 200}
"""Defaults of fairseq-generate."""


class CTranslate2Engine:
    """Runs the converted model in `folder`."""

    name = "ctranslate2"
    libraries = ("ctranslate2",)
    lengths = None
    can_stream = True

    def __init__(self, plan: SystemPlan, folder: Path, device: str) -> None:
        self.folder, self.device, self.precision = folder, device, plan.precision
        options = dict(plan.options)
        self.use_vmap = bool(options.pop("vocabulary_map", False))
        self.search = Search(**{**FAIRSEQ_GENERATE, **options})
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

    def iterations(self, target: list[str]) -> int:
        return 0

    def translate(self, batches: Iterable[Sequence[list[str]]]) -> list[list[list[str]]]:
        waiting = []
        for batch in batches:
            limit = self.search.limit(1 + max(map(len, batch)))
            waiting.append(
                _ctranslate2.submit(
                    self.translator, list(batch), self.search, limit, use_vmap=self.use_vmap
                )
            )
        return [[result.result().hypotheses[0] for result in results] for results in waiting]

    def predicted_lengths(self, batch: Sequence[list[str]]) -> list[int]:
        raise NotImplementedError("an autoregressive system predicts no length")

    def parts(self) -> list[Part]:
        return []

    def wait(self) -> None:
        """Does nothing: `translate` returns when everything is done."""

    def operations(self, work: Callable[[], object]) -> int | None:
        return None

    def rate(self) -> float | None:
        return None

    def peak_bytes(self, work: Callable[[], object]) -> int | None:
        work()
        return None

"""Runs an exported model with `fairseq_nart.runtime`, without torch."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from fairseq_nart import runtime
from fairseq_nart.runtime import ctc, dag, engine, search
from fairseq_nart.runtime.candidates import Hypothesis
from fairseq_nart.runtime.scorer import TeacherScorer
from fairseq_nart.tools.benchmark import products
from fairseq_nart.tools.benchmark.clock import Part
from fairseq_nart.tools.benchmark.engines import Layout
from fairseq_nart.tools.benchmark.plan import EXPORTED, SystemPlan

_GRAPHS = {"encode": "encoder", "predict": "latents"}
"""The parts of the graphs other than the decoder's."""

_NUMPY_PARTS: list[Part] = [
    *((search, name, "viterbi") for name in ("best_path", "k_best", "log_probs")),
    *((ctc, name, "search") for name in ("best_path", "prefix_beam_search")),
    *((dag, name, "search") for name in ("best_moves", "best_of_lengths")),
    (engine, "finish", "clean"),
    (TeacherScorer, "__call__", "rescoring"),
    (engine, "distinct", "pick"),
]


class OnnxEngine:
    """Translates with the exported model in `folder`."""

    name = "onnx"
    device = "cpu"
    libraries = ("onnxruntime", "numpy")
    can_stream = True

    def __init__(self, plan: SystemPlan, folder: Path) -> None:
        self.folder = folder
        self.options = {x: y for x, y in plan.options.items() if x not in EXPORTED}
        if "rescore_with" in plan.options:
            self.options["rescore"] = True
        self.lay_out(Layout(plan.threads or 1))
        translator = self.translators[0]
        self.text = translator.text
        self.manifest = translator.manifest
        self.refines = "refinement_iterations" in self.manifest.decoding
        values = translator.engine.system.options
        self.lengths: int | None = getattr(values, "length_candidates", None)

    def lay_out(self, layout: Layout) -> None:
        self.threads = layout.threads
        # A translator serves one thread at a time.
        self.translators = [
            runtime.load(self.folder, layout.threads, **self.options) for _ in range(layout.streams)
        ]

    def encode(self, pieces: list[str]) -> list[int]:
        return self.text.numbered(pieces)

    def decode(self, target: Hypothesis) -> list[str]:
        return self.text.pieces(target.tokens)

    def iterations(self, target: Hypothesis) -> int:
        return target.iterations if self.refines else 0

    def translate(self, batches: Iterable[Sequence[list[int]]]) -> list[list[Hypothesis]]:
        if len(self.translators) == 1:
            return [_best(self.translators[0], batch) for batch in batches]
        free: SimpleQueue[runtime.Translator] = SimpleQueue()
        for translator in self.translators:
            free.put(translator)

        def work(batch: Sequence[list[int]]) -> list[Hypothesis]:
            translator = free.get()
            try:
                return _best(translator, batch)
            finally:
                free.put(translator)

        with ThreadPoolExecutor(len(self.translators)) as threads:
            return list(threads.map(work, batches))

    def predicted_lengths(self, batch: Sequence[list[int]]) -> list[int]:
        tokens = np.full((len(batch), max(map(len, batch))), self.manifest.pad)
        for row, source in zip(tokens, batch, strict=True):
            row[: len(source)] = source
        lengths = self.translators[0].engine.system.encode(tokens).encoded["lengths"]
        predicted: list[int] = lengths.clip(min=1).tolist()
        return predicted

    def parts(self) -> list[Part]:
        system = self.translators[0].engine.system
        graphs: list[Part] = [
            (graph, "run", _GRAPHS.get(name, "decoder"))
            for name, graph in system.graphs.items()
            if not name.startswith("teacher")
        ]
        own: list[Part] = [(system, name, part) for name, part in system.timed]
        return [*graphs, *own, *_NUMPY_PARTS]

    def wait(self) -> None:
        """Does nothing: `translate` returns when everything is done."""

    def operations(self, work: Callable[[], object]) -> int | None:
        graphs = self.translators[0].engine.system.graphs  # the teacher's too
        return products.operations(self.folder / self.manifest.model, graphs.values(), work)

    def rate(self) -> float | None:
        file = self.folder.with_name(products.FILE.format(self.manifest.precision))
        return products.rate(file, self.threads)

    def peak_bytes(self, work: Callable[[], object]) -> int | None:
        work()
        return None


def _best(translator: runtime.Translator, batch: Sequence[list[int]]) -> list[Hypothesis]:
    return [hypotheses[0] for hypotheses in translator.engine(batch, most=1, scored=False)]

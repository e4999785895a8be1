"""Decoding of batches of token ids: the counterpart of `fairseq_nart.generation.engine`."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_nart.errors import UserError
from fairseq_nart.generation.passes import (
    ELEMENTS_PER_PASS,
    MOST_ELEMENTS,
    gibibytes,
    plan,
    runs,
)
from fairseq_nart.runtime import folder as folders
from fairseq_nart.runtime.candidates import Cleaning, Hypothesis, distinct, finish
from fairseq_nart.runtime.graphs import load
from fairseq_nart.runtime.scorer import TeacherScorer
from fairseq_nart.runtime.states import Source, Targets
from fairseq_nart.runtime.system import System

MOST = ELEMENTS_PER_PASS["cpu"]


class Engine:
    """An exported model and, if its options ask for it, the exported teacher."""

    def __init__(
        self, folder: Path, manifest: folders.Manifest, threads: int, options: dict[str, Any]
    ) -> None:
        """`options`: decoding options, and `rescore` and `rescore_best` of the teacher. Rescores
        by default if there are several candidates and a teacher. UserError for an option that the
        model does not have, that is out of range or needs too much memory for any sentence, and if
        there is no teacher to rescore with."""
        self.manifest = manifest
        rescore, best = options.pop("rescore", None), options.pop("rescore_best", None)
        values = folders.decoding_values(manifest, options)
        graphs = load(folder / manifest.model, threads)
        try:
            module = importlib.import_module(f"fairseq_nart.runtime.{manifest.runtime}")
            runtime = module.Runtime
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder} holds a {manifest.system}, which this fairseq_nart cannot decode: "
                "install the version that exported it"
            ) from error
        arrays = folders.arrays(folder, manifest)
        self.system: System = runtime(manifest, graphs, arrays, values)
        self.cleaning = Cleaning(
            eos=manifest.eos,
            longest=manifest.longest_target,
            dedup=bool(values.get("dedup", False)),
            rule=manifest.own_score,
        )
        if not isinstance(rescore, bool | None):
            raise UserError(f"rescore must be true or false, not {rescore!r}")
        if rescore is None:
            rescore = manifest.scorer is not None and self.system.candidates > 1
        if rescore and manifest.scorer is None:
            raise UserError(
                f"{folder} has no teacher, so it cannot rescore: export it with --teacher"
            )
        if best is not None and (not rescore or type(best) is not int or best < 1):
            raise UserError(
                "rescore_best must be at least 1, with a teacher and several candidates, "
                f"not {best}"
            )
        self.rescore_best: int | None = best
        self.scorer = None
        if rescore and manifest.scorer is not None:
            self.scorer = TeacherScorer(graphs, manifest.scorer, manifest.eos)
        self._require_room(1, 1)

    def __call__(
        self, sources: Sequence[Sequence[int]], most: int | None = None, scored: bool = True
    ) -> list[list[Hypothesis]]:
        """Token ids of a batch, the EOS last -> the distinct hypotheses of each sentence, best
        first, at most `most` if given. Without `scored`, a score that is not needed may be 0."""
        result = []
        for part in runs(list(map(len, sources)), self._sentence_elements, MOST):
            result += self._translate(sources[part], most, scored)
        return result

    def _translate(
        self, sources: Sequence[Sequence[int]], most: int | None, scored: bool
    ) -> list[list[Hypothesis]]:
        """The hypotheses of sentences that are encoded together."""
        system, width, pad = self.system, max(map(len, sources)), self.manifest.pad
        tokens = np.array([[*source, *[pad] * (width - len(source))] for source in sources])
        self._require_room(1, width)
        encoded = system.encode(tokens)
        targets = system.propose(encoded)
        self._require_room(int(targets.lengths.max()), width)

        def elements(length: int) -> int:
            return system.row_elements(length, width)

        lengths, result = targets.lengths.tolist(), []
        for part, passes in plan(lengths, targets.valid.tolist(), elements, MOST):
            some = encoded.select(part)
            pools: list[list[Hypothesis]] = [[] for _ in some.tokens]
            for columns in passes:
                decoded = self._pass(some, targets.select(part, columns), columns, scored)
                for pool, hypotheses in zip(pools, decoded, strict=True):
                    pool += hypotheses
            ranked = [distinct(pool) for pool in pools]
            if self.scorer is not None:
                ranked = self._rescored(some, ranked)
            result += [hypotheses[:most] for hypotheses in ranked]
        return result

    def _sentence_elements(self, source: int) -> int:
        """Elements of the largest array for a sentence of `source` tokens before decoding."""
        own = self.system.sentence_elements(source)
        return own if self.scorer is None else max(own, self.scorer.sentence_elements(source))

    def _require_room(self, length: int, source: int) -> None:
        """UserError if a sentence of `source` tokens, or one target of `length` positions for it,
        needs too large an array. The message names the options that make it fit if lowered."""

        def elements(system: System) -> int:
            parts: list[System | TeacherScorer] = [system]
            parts += [] if self.scorer is None else [self.scorer]
            return max(
                max(one.sentence_elements(source), one.row_elements(length, source))
                for one in parts
            )

        needed = elements(self.system)
        if needed <= MOST_ELEMENTS:
            return
        values, lower = vars(self.system.options), []
        for name, option in self.manifest.decoding.items():
            if option.candidates and not option.idle:
                one = type(self.system)(
                    self.manifest, self.system.graphs, self.system.arrays, {**values, name: 1}
                )
                lower += [name] if elements(one) <= MOST_ELEMENTS else []
        advice = f"lower {' or '.join(lower)}" if lower else "leave the sentence out"
        raise UserError(
            f"a sentence of {source} token{'s' if source > 1 else ''} needs {gibibytes(needed)} "
            f"for one array, more than {gibibytes(MOST_ELEMENTS)}: {advice}"
        )

    def _pass(
        self, source: Source, targets: Targets, columns: list[int], scored: bool
    ) -> list[list[Hypothesis]]:
        several = self.system.candidates > 1
        teacher_only = self.scorer is not None and self.rescore_best is None
        scored = (scored or several) and not teacher_only
        empty = (source.tokens[:, 0] == self.manifest.eos).tolist()
        return finish(self.system.decode(source, targets, scored), empty, self.cleaning, columns)

    def _rescored(self, source: Source, ranked: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
        """Ranks the best hypotheses of each sentence again, by the teacher's scores."""
        assert self.scorer is not None
        kept = [hypotheses[: self.rescore_best] for hypotheses in ranked]
        outputs = [[one.tokens for one in hypotheses] for hypotheses in kept]
        scores = self.scorer(source.tokens, source.mask, outputs)
        return [
            distinct(replace(one, score=score) for one, score in zip(*pair, strict=True))
            for pair in zip(kept, scores, strict=True)
        ]

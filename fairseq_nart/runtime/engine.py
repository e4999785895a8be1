"""Decoding of batches of token ids: the counterpart of `fairseq_nart.generation.engine`."""

import importlib
from collections.abc import Sequence
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
from fairseq_nart.runtime.candidates import Candidates, Hypothesis, finish, rank
from fairseq_nart.runtime.graphs import Graph
from fairseq_nart.runtime.scorer import TeacherScorer
from fairseq_nart.runtime.states import Decoded, Source, Targets
from fairseq_nart.runtime.system import System

MOST = ELEMENTS_PER_PASS["cpu"]


class Engine:
    """An exported model and, if its options ask for it, the exported teacher."""

    def __init__(
        self, folder: Path, manifest: folders.Manifest, threads: int, options: dict[str, Any]
    ) -> None:
        """`options`: decoding options, and `rescore` and `rescore_best` of the teacher. Rescores
        by default if there are several candidates and a teacher. UserError for an option that the
        model does not have or that is out of range, and if there is no teacher to rescore with."""
        self.manifest = manifest
        rescore, best = options.pop("rescore", None), options.pop("rescore_best", None)
        values = folders.value_of(manifest, options)
        graphs: dict[str, Graph] = {}

        def load(teachers: bool) -> dict[str, Graph]:
            for name, file in manifest.graphs.items():
                if name.startswith("teacher") == teachers:
                    graphs[name] = Graph(folder / file, threads)
            return graphs

        try:
            module = importlib.import_module(f"fairseq_nart.runtime.{manifest.runtime}")
        except ModuleNotFoundError as error:
            raise UserError(
                f"{folder} holds a {manifest.system}, which this fairseq_nart cannot decode: "
                "install the version that exported it"
            ) from error
        self.system: System = module.Runtime(manifest, load(False), values)
        self.dedup = bool(values.get("dedup", False))
        if rescore is None:
            rescore = manifest.scorer is not None and self.system.candidates > 1
        if rescore and manifest.scorer is None:
            raise UserError(
                f"{folder} has no teacher, so it cannot rescore: export it with --teacher"
            )
        if best is not None and (not rescore or not isinstance(best, int) or best < 1):
            raise UserError(
                "rescore_best must be at least 1, with a teacher and several candidates, "
                f"not {best}"
            )
        self.rescore_best: int | None = best
        self.scorer = None
        if rescore and manifest.scorer is not None:
            self.scorer = TeacherScorer(load(True), manifest.scorer, manifest.eos)

    def __call__(
        self, sources: Sequence[Sequence[int]], most: int | None = None, scored: bool = True
    ) -> list[list[Hypothesis]]:
        """Token ids of a batch, the EOS last -> the distinct hypotheses of each sentence, best
        first, at most `most` if given. Without `scored`, a score that is not needed may be 0."""
        result = []
        for part in runs(list(map(len, sources)), self.system.sentence_elements, MOST):
            result += self._translate(sources[part], most, scored)
        return result

    def _translate(
        self, sources: Sequence[Sequence[int]], most: int | None, scored: bool
    ) -> list[list[Hypothesis]]:
        """The hypotheses of sentences that are encoded together."""
        tokens = np.full((len(sources), max(map(len, sources))), self.manifest.pad)
        for row, source in enumerate(sources):
            tokens[row, : len(source)] = source
        system, result = self.system, []
        self._require_room(system.sentence_elements(tokens.shape[1]))
        encoded = system.encode(tokens)
        targets = system.propose(encoded)
        self._require_room(system.row_elements(int(targets.lengths.max())))
        lengths = targets.lengths.tolist()
        for part, passes in plan(lengths, targets.valid.tolist(), system.row_elements, MOST):
            some = encoded.select(part)
            done = [self._pass(some, targets.select(part, columns), scored) for columns in passes]
            joined = _joined(done, passes, len(some.mask), self.manifest.pad)
            if self.scorer is not None:
                joined = self._rescored(some, joined)
            result += rank(joined, len(some.mask), most)
        return result

    def _require_room(self, elements: int) -> None:
        """UserError if the largest array of one sentence or target would have too many elements."""
        if elements > MOST_ELEMENTS:
            options = self.manifest.decoding.items()
            names = [name for name, option in options if option.candidates and not option.idle]
            raise UserError(
                f"a sentence needs {gibibytes(elements)} for one array, more than "
                f"{gibibytes(MOST_ELEMENTS)}: lower {' or '.join(names)}, or leave it out"
            )

    def _pass(self, source: Source, targets: Targets, scored: bool) -> Candidates:
        several = self.system.candidates > 1
        teacher_only = self.scorer is not None and self.rescore_best is None
        scored = (scored or several) and not teacher_only
        decoded: Decoded = self.system.decode(source, targets, scored)
        width = len(decoded.tokens) // len(source.mask)
        return finish(
            decoded,
            self.manifest.own_score,
            eos=self.manifest.eos,
            pad=self.manifest.pad,
            dedup=self.dedup,
            longest=self.manifest.longest_target,
            empty=np.repeat(source.mask.sum(axis=1) == 1, width),
        )

    def _rescored(self, source: Source, candidates: Candidates) -> Candidates:
        """The candidates with the teacher's scores; those not rescored score -inf."""
        assert self.scorer is not None
        count = len(source.mask)
        scores = candidates.scores.reshape(count, -1)
        if self.rescore_best is not None and self.rescore_best < scores.shape[1]:
            # Distinct candidates first: the teacher need not see one twice.
            scores = _without_repeats(candidates, scores)
            kept = np.argsort(-scores, axis=1, kind="stable")[:, : self.rescore_best]
            chosen = np.zeros(scores.shape, bool)
            np.put_along_axis(chosen, kept, True, axis=1)
            exists = chosen & (scores > -np.inf)
        else:
            exists = scores > -np.inf
        new = self.scorer(source.tokens, source.mask, candidates, exists)
        return Candidates(
            candidates.tokens, candidates.mask, candidates.log_probs, new, candidates.iterations
        )


def _without_repeats(candidates: Candidates, scores: Any) -> Any:
    """scores (B,W) with -inf for a candidate that equals a better one of its sentence."""
    scores = scores.copy()
    order = np.argsort(-scores, axis=1, kind="stable")
    for sentence, row in enumerate(candidates.tokens.reshape(*scores.shape, -1)):
        _, first = np.unique(row[order[sentence]], axis=0, return_index=True)
        again = np.ones(len(row), bool)
        again[order[sentence, first]] = False
        scores[sentence, again] = -np.inf
    return scores


def _joined(
    parts: list[Candidates], passes: list[list[int]], sentences: int, pad: int
) -> Candidates:
    """The candidates of several passes over the same sentences, in the order of one pass. `passes`
    are the columns of the targets in each."""
    if len(parts) == 1:
        return parts[0]
    columns = np.concatenate(passes)
    several = sum(len(part.scores) for part in parts) // (sentences * len(columns))
    order = np.argsort(np.repeat(columns, several), kind="stable")
    width = max(part.tokens.shape[1] for part in parts)

    def of(name: str, fill: Any) -> Any:
        rows = []
        for part in parts:
            array = getattr(part, name)
            if array.ndim == 2:
                array = np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)
            rows.append(array.reshape(sentences, -1, *array.shape[1:]))
        joined = np.concatenate(rows, axis=1)[:, order]
        return joined.reshape(-1, *joined.shape[2:])

    fills = {"tokens": pad, "mask": False, "log_probs": 0, "scores": 0, "iterations": 0}
    return Candidates(**{name: of(name, fill) for name, fill in fills.items()})

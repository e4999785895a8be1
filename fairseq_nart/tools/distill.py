"""Sequence-level distillation: a training set with the teachers' translations (1606.07947)."""

import argparse
import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import fairseq
import sacrebleu
import torch

import fairseq_nart
from fairseq_nart.data.splits import Split, open_splits
from fairseq_nart.errors import UserError
from fairseq_nart.files import locked, read_json, write_json
from fairseq_nart.teacher.search import Search
from fairseq_nart.tools import _model
from fairseq_nart.tools._cluster import cluster
from fairseq_nart.tools._decoding import number_in
from fairseq_nart.tools._teacher import Teacher
from fairseq_nart.tools.distillation import over_ray
from fairseq_nart.tools.distillation.backends import Backend, open_backend
from fairseq_nart.tools.distillation.data import MANIFEST, figures, write_data
from fairseq_nart.tools.distillation.length_penalty import compare
from fairseq_nart.tools.distillation.options import AUTO, BACKENDS, Distillation
from fairseq_nart.tools.distillation.shards import Shard, gather, require_same
from fairseq_nart.tools.distillation.translate import Translate, in_process, translate_shard


def distill(asked: Distillation) -> None:
    """Makes `asked.out` a data set ready for training: `asked.data` with the teacher's targets.

    Resumes an earlier call, even one that was killed. Of several shards the last to finish builds
    the data set. UserError or OSError for what the user can fix.
    """
    work = Work(asked)
    if work.is_finished():
        print(f"{asked.out} is finished: nothing to do")
        return
    work.translate()
    if missing := work.missing():
        shards = ", ".join(f"shard {shard} ({count} sentences)" for shard, count in missing.items())
        print(f"shard {asked.shard_id} of {asked.num_shards} is finished; missing: {shards}")
    else:
        work.build()


class Work:
    """One call of the tool: collects translations under `out`/parts, then builds the data set."""

    def __init__(self, asked: Distillation) -> None:
        self.asked = asked
        path, *others = map(Path, fairseq.utils.split_paths(asked.path))
        first = Teacher.load(path, asked.data, (asked.source_lang, asked.target_lang))
        self.languages, self.dictionary = first.languages, first.target
        self.teachers = [first, *(Teacher.load(x, asked.data, self.languages) for x in others)]
        self.splits = open_splits(asked.data, asked.splits, self.languages)
        self.manifest = asked.out / MANIFEST
        self.folder = asked.out / "parts"
        self.options = self.folder / "options.json"
        self.lenpen = self.folder / "lenpen.json"

    def is_finished(self) -> bool:
        """Whether `out` is finished; UserError where it was made with other options."""
        finished = read_json(self.manifest)
        if finished is not None:
            self._require_same(self.manifest, finished["made_with"])
        return finished is not None

    def translate(self) -> None:
        """Translates the missing sentences of our shard."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "lock"):
            begun = read_json(self.options)
            if begun is None:
                write_json(self.options, self._made_with(self.backend.name))
            else:
                self._require_same(self.options, begun)
        asked, record = self.asked, self._record(self.asked.shard_id)
        shards = [(split, self._shard(split, asked.shard_id)) for split in self.splits]
        unfinished = [(split, shard) for split, shard in shards if shard.missing()]
        if not unfinished:
            return
        with self._translator() as translate:
            for split, shard in unfinished:
                kept, most = self._kept(split), asked.max_tokens
                translate_shard(split, shard, self.backend, translate, most, record, kept)

    def missing(self) -> dict[int, int]:
        """The number of untranslated sentences of each shard that has any."""
        shards = range(self.asked.num_shards)
        counts = {n: sum(len(self._shard(x, n).missing()) for x in self.splits) for n in shards}
        return {shard: count for shard, count in counts.items() if count}

    def build(self) -> None:
        """Writes the data set and, last, its manifest."""
        with locked(self.folder / "lock"):
            if self.is_finished():  # by another shard that ended at the same time
                return
            out, dictionary = self.asked.out, self.dictionary
            shards = range(self.asked.num_shards)
            lines = [gather([self._shard(x, shard) for shard in shards]) for x in self.splits]
            write_data(self.asked.data, out, self.splits, lines, dictionary)
            report = {
                split.name: figures(out, split, texts, dictionary, self._kept(split))
                for split, texts in zip(self.splits, lines, strict=True)
            }
            write_json(self.manifest, self._describe(report))
        for name, entry in report.items():
            bleu = entry["bleu_against_original"]
            against = "" if bleu is None else f", BLEU {bleu} against the original targets"
            pair = " to ".join(self.languages)
            print(f"{out}: {name} distilled, {pair}, {entry['sentences']} sentences{against}")
            if kept := entry["kept_original"]:
                print(f"{out}: {kept} of {name} keep their targets: too long for the teacher")

    @functools.cached_property
    def backend(self) -> Backend:
        """The backend of the existing translations, if any, else the one asked for."""
        begun, asked = read_json(self.options), self.asked
        backend = open_backend(
            begun["--backend"] if begun else asked.backend,
            self.teachers,
            asked.search,
            asked.compute_type,
            self.folder / f"ctranslate2.{asked.shard_id}",
        )
        if asked.auto_lenpen:
            (valid,) = open_splits(asked.data, ("valid",), self.languages)
            with locked(self.lenpen.with_suffix(".lock")):  # shards take the choice of the first
                choice = read_json(self.lenpen)
                if choice is None:
                    left_out = valid.beyond(self._longest_source())
                    choice = compare(valid, left_out, backend, self.dictionary, asked.max_tokens)
                    write_json(self.lenpen, choice)
            backend.set_lenpen(choice["best"])
        return backend

    @contextmanager
    def _translator(self) -> Iterator[Translate]:
        """What translates: this process, or a Ray cluster that it is connected to."""
        asked, backend = self.asked, self.backend
        if asked.ray is None:
            yield in_process(backend)
            return
        search, choice = asked.search, read_json(self.lenpen)
        if choice is not None:
            search = dataclasses.replace(search, lenpen=choice["best"])
        job = over_ray.Job(
            data=asked.data.resolve(),
            teachers=[teacher.path.resolve() for teacher in self.teachers],
            languages=self.languages,
            backend=backend.name,
            search=search,
            compute_type=asked.compute_type,
        )
        with cluster(asked.ray):
            yield functools.partial(over_ray.translated, job)

    def _shard(self, split: Split, shard: int) -> Shard:
        count, num_shards = len(split.source), self.asked.num_shards
        return Shard(self.folder, split.name, count, shard, num_shards)

    def _kept(self, split: Split) -> dict[int, str]:
        """The original targets of the sentences whose source is too long for the teacher.

        fairseq-train skips them, as it did in the teacher's training.
        """
        beyond = split.beyond(self._longest_source())
        return {index: split.original(index, self.dictionary) for index in beyond}

    def _longest_source(self) -> int:
        """Most source tokens that every teacher can read."""
        return min(int(teacher.model.max_positions()[0]) for teacher in self.teachers)

    def _record(self, shard: int) -> Path:
        return self.folder / f"run.{shard}-of-{self.asked.num_shards}.json"

    def _made_with(self, chosen: str) -> dict[str, Any]:
        """Everything that determines the translations, with the backend `chosen` for "auto"."""
        digests = (teacher.record["sha256"] for teacher in self.teachers)
        made_with: dict[str, Any] = {"sha256 of --path": ":".join(digests)}
        made_with |= self.asked.determining(chosen)
        for split in self.splits:
            made_with[f"sentences of {split.name}"] = len(split.source)
            made_with[f"sha256 of the sources of {split.name}"] = split.source_sha256()
        return made_with

    def _require_same(self, file: Path, begun: dict[str, Any]) -> None:
        require_same(file, begun, self._made_with(begun["--backend"]))

    def _describe(self, report: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The content of the manifest."""
        asked, shards = self.asked, range(self.asked.num_shards)
        runs = [read_json(self._record(shard)) or {"seconds": 0.0} for shard in shards]
        return {
            "teachers": [teacher.record for teacher in self.teachers],
            "data": str(asked.data),
            "made_with": read_json(self.options),
            "lenpen": read_json(self.lenpen),
            "--max-tokens": asked.max_tokens,
            "runs": runs,
            "seconds": round(sum(run["seconds"] for run in runs), 2),
            "splits": report,
            "versions": {
                "fairseq_nart": fairseq_nart.__version__,
                "fairseq": fairseq.__version__,
                "torch": torch.__version__,
                "sacrebleu": sacrebleu.__version__,
            },
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart distill`."""
    new, search = Distillation, Search
    parser.add_argument("data", type=Path, help="binarised data, as for fairseq-train")
    parser.add_argument(
        "--path",
        required=True,
        help="checkpoint of the teacher, or of an ensemble: A:B:C, also of different architectures",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the distilled data set")
    parser.add_argument(
        "--splits",
        nargs="+",
        default=new.splits,
        help="splits to distil (default: train); a source too long for the teacher keeps its "
        "target",
    )
    parser.add_argument("--beam", type=int, default=search.beam, help="beam size (default: 4)")
    parser.add_argument(
        "--lenpen",
        type=number_in,
        default=search.lenpen,
        help="length penalty (default: 1); auto: of several the one with the best BLEU on valid",
    )
    parser.add_argument(
        "--max-len-a", type=float, default=search.max_len_a, help="longest output: a x + b"
    )
    parser.add_argument(
        "--max-len-b", type=int, default=search.max_len_b, help="(default: 1.2 x + 10)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=new.max_tokens, help="source tokens in a batch"
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default=new.backend,
        help="auto: CTranslate2 where it is installed and can run the teacher, else fairseq",
    )
    parser.add_argument(
        "--compute-type", help="of CTranslate2, such as int8 (default: float32, as trained)"
    )
    parser.add_argument(
        "--num-shards", type=int, default=new.num_shards, help="number of calls sharing the work"
    )
    parser.add_argument(
        "--shard-id", type=int, default=new.shard_id, help="shard of this call, from 0"
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="translate on a Ray cluster: HOST:PORT, auto for the one of this machine, or local to "
        "start one of its cores; needs ray[data]",
    )
    _model.languages(parser, "the teacher's, else the data's")


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart distill`."""
    words = {name: value for name, value in vars(options).items() if name != "tool"}
    words["splits"] = tuple(words["splits"])
    if words["lenpen"] == AUTO:
        words |= {"auto_lenpen": True, "lenpen": Search.lenpen}
    elif isinstance(words["lenpen"], str):
        raise UserError(f"--lenpen must be a number or {AUTO}, not {words['lenpen']!r}")
    search = Search(**{field.name: words.pop(field.name) for field in fields(Search)})
    distill(Distillation(search=search, **words))

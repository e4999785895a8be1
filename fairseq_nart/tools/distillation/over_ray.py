"""Translates with a worker for each core or GPU of a Ray cluster.

Ray Data starts the workers, gives each the next batches, and gives those of a worker that dies to
another one. The machines share the folders of the data and the teachers.
"""

import importlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fairseq_nart.data.splits import Split
from fairseq_nart.teacher.search import Search
from fairseq_nart.tools._teacher import Teacher
from fairseq_nart.tools.distillation.backends import open_backend

TOGETHER = 8
"""Batches that a worker returns together, and that are lost with it."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to translate."""

    data: Path
    teachers: list[Path]
    languages: tuple[str, str]
    backend: str
    search: Search
    compute_type: str | None


class Worker:
    """The teachers in a process of their own, on one core or one GPU."""

    def __init__(self, job: Job) -> None:
        self.job = job
        teachers = [Teacher.load(path, job.data, job.languages) for path in job.teachers]
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "ctranslate2"
            arguments = (job.backend, teachers, job.search, job.compute_type, work)
            self.backend = open_backend(*arguments, workers=1)
        self.splits: dict[str, Split] = {}

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """{"split": its name, "batch": indices} -> the same indices and their "texts"."""
        name, batch = row["split"], [int(index) for index in row["batch"]]
        if name not in self.splits:
            self.splits[name] = Split.open(self.job.data, name, self.job.languages)
        source = torch.stack([self.splits[name].source[i] for i in batch]).long()
        (texts,) = self.backend.translate([source])
        return {"batch": batch, "texts": texts}


def translated(
    job: Job, split: Split, batches: list[list[int]]
) -> Iterator[tuple[list[int], list[str]]]:
    """Each batch of sentences of `split` with its translations, in any order."""
    ray: Any = importlib.import_module("ray")
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    rows = [{"split": split.name, "batch": batch} for batch in batches]
    results = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // TOGETHER)).map(
        Worker,
        fn_constructor_args=(job,),
        num_cpus=1,
        num_gpus=1 if gpus else None,
        concurrency=gpus or int(resources["CPU"]),
    )
    for result in results.iter_rows():
        yield [int(index) for index in result["batch"]], [str(text) for text in result["texts"]]

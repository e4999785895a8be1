"""Options of a distillation."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq_nart.errors import UserError
from fairseq_nart.options import require_in_range
from fairseq_nart.teacher.search import Search

BACKENDS = ("auto", "fairseq", "ctranslate2")
AUTO = "auto"
"""The value of --lenpen that stands for the best one on valid."""


@dataclass(frozen=True)
class Distillation:
    """The options of `fairseq-nart distill`; UserError names an invalid one."""

    data: Path
    """Binarised data, as for fairseq-train."""
    path: str
    """Checkpoint of the teacher. Several, separated by colons, translate as an ensemble."""
    out: Path
    """Folder for the distilled data set."""
    splits: tuple[str, ...] = ("train",)
    """Splits that get the teacher's targets; all others are copied."""
    search: Search = field(default_factory=Search)
    auto_lenpen: bool = False
    """Use the length penalty with the best BLEU on valid instead of that of `search`."""
    max_tokens: int = field(default=4096, metadata={"at least": 1})
    """Source tokens in a batch; the translations do not depend on it."""
    backend: str = "auto"
    compute_type: str | None = None
    """CTranslate2's arithmetic; None means float32, the teacher's own."""
    num_shards: int = field(default=1, metadata={"at least": 1})
    shard_id: int = 0
    ray: str | None = None
    """Address of a Ray cluster that translates; None means this process."""
    source_lang: str | None = None
    target_lang: str | None = None
    """None means the teacher's languages, else the data's."""

    def __post_init__(self) -> None:
        require_in_range(self, Distillation)
        if not 0 <= self.shard_id < self.num_shards:
            raise UserError(
                f"--shard-id must be 0 to {self.num_shards - 1} with --num-shards "
                f"{self.num_shards}, not {self.shard_id}"
            )
        if self.ray and self.num_shards > 1:
            raise UserError("--ray divides the work itself: leave --num-shards out")
        if len(set(self.splits)) != len(self.splits) or not self.splits:
            raise UserError(f"--splits must name each split once, not {' '.join(self.splits)!r}")
        if self.backend not in BACKENDS:
            raise UserError(f"--backend must be one of {', '.join(BACKENDS)}, not {self.backend}")
        if self.compute_type and self.backend == "fairseq":
            raise UserError("--compute-type is for --backend ctranslate2: leave it out")
        if self.out.resolve() == self.data.resolve():
            raise UserError(f"--out {self.out} is the data set itself: give another folder")

    def determining(self, chosen: str) -> dict[str, Any]:
        """The options that determine the translations, with the backend `chosen` for "auto"."""
        backend = chosen if self.backend == "auto" else self.backend
        own = "float32" if backend == "ctranslate2" else None
        return {
            "--splits": list(self.splits),
            "--beam": self.search.beam,
            "--lenpen": AUTO if self.auto_lenpen else self.search.lenpen,
            "--max-len-a": self.search.max_len_a,
            "--max-len-b": self.search.max_len_b,
            "--backend": backend,
            "--compute-type": self.compute_type or own,
            "--num-shards": self.num_shards,
        }

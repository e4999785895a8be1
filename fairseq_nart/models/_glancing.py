"""Options of glancing, for every system that takes it up."""

from dataclasses import dataclass, field
from typing import Tuple  # noqa: UP035  (fairseq recognises it by its name)

from fairseq.dataclass import FairseqDataclass
from omegaconf import II

from fairseq_nart.errors import UserError
from fairseq_nart.layers.glancing import Glancing


@dataclass
class GlancingConfig(FairseqDataclass):
    """Training options of a system with glancing."""

    glancing: bool = field(
        default=False,
        metadata={"help": "in training, reveal a part of the reference to the decoder"},
    )
    glancing_ratio: Tuple[float, float] = field(  # noqa: UP006
        default=(0.5, 0.3),
        metadata={
            "help": "START,END: share of the wrong positions that is revealed at the start and at "
            "the end of the training",
            "at least": 0,
            "at most": 1,
        },
    )
    max_update: int = field(default=II("optimization.max_update"), metadata={"at least": 0})


def build_glancing(cfg: GlancingConfig) -> Glancing:
    """The module, which is never active without --glancing.

    UserError for a ratio without glancing, for one that is not two numbers, or for one that changes
    in a training without --max-update.
    """
    given = ",".join(map(str, cfg.glancing_ratio))
    if not cfg.glancing:
        if tuple(cfg.glancing_ratio) != GlancingConfig.glancing_ratio:
            raise UserError(f"--glancing-ratio {given} needs --glancing: add it")
        return Glancing(0.0, 0.0, 0)
    if len(cfg.glancing_ratio) != 2:
        raise UserError(f"--glancing-ratio must be START,END, such as 0.5,0.3, not {given}")
    start, end = cfg.glancing_ratio
    if start != end and not cfg.max_update:
        raise UserError(
            f"--glancing-ratio {given} changes over the updates of the training: give --max-update "
            f"too, or a constant ratio such as {start},{start}"
        )
    return Glancing(start, end, cfg.max_update)

"""Measures the quality, latency, throughput and memory of several systems."""

import argparse
from functools import partial
from pathlib import Path

from fairseq_nart.files import exclusive
from fairseq_nart.options import require_positive
from fairseq_nart.tools import _model
from fairseq_nart.tools.benchmark import lengths, stages
from fairseq_nart.tools.benchmark.plan import read_plan
from fairseq_nart.tools.benchmark.records import FILE
from fairseq_nart.tools.benchmark.session import Session

STAGES = ("latency", "parts", "translations", "throughput", "lengths", "sweeps")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart bench`."""
    parser.add_argument("plan", type=Path, help="TOML file of test sets and systems")
    parser.add_argument("--out", type=Path, required=True, help="run folder, for the records")
    parser.add_argument(
        "--root", type=Path, help="folder that the plan's paths are relative to (default: its own)"
    )
    parser.add_argument(
        "--skip-missing", action="store_true", help="leave out systems without a checkpoint (yet)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if available)")
    parser.add_argument(
        "--sentences", type=int, default=200, help="timed sentences per test set (default: 200)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="timings per sentence; uses the median (default: 3)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, help="for the translations that are scored"
    )
    parser.add_argument(
        "--max-batch-size", type=int, default=256, help="largest batch of the throughput stage"
    )
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=STAGES, help="what to measure (default: all)"
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart bench`."""
    require_positive(options, "sentences", "repeats", "batch_size", "max_batch_size")
    plan = read_plan(options.plan, options.root or options.plan.parent, options.skip_missing)
    device = _model.device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    with exclusive(options.out):
        _measure(Session(plan, options.out, device, options.sentences), options)
    print(f"records: {options.out / FILE}")


def _measure(session: Session, options: argparse.Namespace) -> None:
    with session.workers() as workers:
        others = {
            "parts": partial(stages.parts_and_memory, session, workers),
            "translations": partial(stages.translations, session, workers, options.batch_size),
            "throughput": partial(stages.throughput, session, workers, options.max_batch_size),
            "lengths": partial(lengths.lengths, session, workers, options.repeats),
        }
        waiting = [stage for name, stage in others.items() if name in options.stages]
        # The repeats of latency alternate with the other stages, because a machine has slow
        # minutes, which do not affect all systems equally.
        for repeat in range(1, options.repeats + 1) if "latency" in options.stages else ():
            stages.latency(session, workers, options.repeats, repeat)
            if waiting and repeat < options.repeats:
                waiting.pop(0)()
        for stage in waiting:
            stage()
    if "sweeps" in options.stages:
        stages.sweeps(session, options.batch_size)

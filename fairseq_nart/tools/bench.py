"""Quality, latency, throughput and memory of systems, measured side by side."""

import argparse
from functools import partial
from pathlib import Path

from fairseq_nart.files import exclusive
from fairseq_nart.generation.options import typed
from fairseq_nart.tools.benchmark import stages
from fairseq_nart.tools.benchmark.plan import read_plan
from fairseq_nart.tools.benchmark.records import FILE
from fairseq_nart.tools.benchmark.session import Session

STAGES = ("latency", "parts", "translations", "throughput", "sweeps")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart bench`."""
    parser.add_argument("plan", type=Path, help="TOML file of test sets and systems")
    parser.add_argument("--out", type=Path, required=True, help="run folder, for the records")
    parser.add_argument(
        "--root", type=Path, help="folder that paths in the plan start from (default: the plan's)"
    )
    parser.add_argument(
        "--skip-missing", action="store_true", help="leave out what has no checkpoint (yet)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="(default: a GPU where there is one)"
    )
    parser.add_argument(
        "--sentences", type=int, default=200, help="how many of a test set are timed (default: 200)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="times each is timed, the median counts (default: 3)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, help="of the translations that are scored"
    )
    parser.add_argument(
        "--max-batch-size", type=int, default=256, help="throughput is measured up to it"
    )
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=STAGES, help="what to measure (default: all)"
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart bench`."""
    for name in ("sentences", "repeats", "batch_size", "max_batch_size"):
        if (number := getattr(options, name)) < 1:
            raise ValueError(f"{typed(name)} must be at least 1, not {number}")
    plan = read_plan(options.plan, options.root or options.plan.parent, options.skip_missing)
    device = options.device or _device()
    if device == "cuda" != _device():
        raise ValueError("--device cuda: torch sees no GPU; leave it out, or type --device cpu")
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
        }
        waiting = [stage for name, stage in others.items() if name in options.stages]
        # The repeats of latency are spread over the other work, because a machine has slow minutes,
        # which do not slow all systems alike.
        for repeat in range(1, options.repeats + 1) if "latency" in options.stages else ():
            stages.latency(session, workers, options.repeats, repeat)
            if waiting and repeat < options.repeats:
                waiting.pop(0)()
        for stage in waiting:
            stage()
    if "sweeps" in options.stages:
        stages.sweeps(session, options.batch_size)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

"""Whether the fixes of `compat` are applied, and whether fairseq still needs them."""

import contextlib
import importlib
import inspect
import io
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_nart.tools.diagnosis.environment import runtime_only
from fairseq_nart.tools.diagnosis.findings import FAULT, NOTE, OK, Finding

Probe = Callable[[Any], bool]
"""Takes what fairseq has without the fix; whether the fault is there."""


@dataclass(frozen=True)
class Fix:
    """One module of `compat`, and a place in fairseq that it changes."""

    place: str
    """MODULE:NAME.NAME of a function, a class or a module's view."""
    without: str
    """What happens without it."""
    needed: Probe


def _has(*texts: str) -> Probe:
    """A probe that looks for texts in fairseq's source, where trying would take a training run."""
    return lambda original: all(text in inspect.getsource(original) for text in texts)


def _lacks(*texts: str) -> Probe:
    return lambda original: not any(text in inspect.getsource(original) for text in texts)


def _always(_original: Any) -> bool:
    return True


def _drops_last_batch(original: Any) -> bool:
    import numpy as np

    batches = original(np.arange(3), lambda _: 1, np.ones(3, np.int64), None, 8, 2)
    return sum(map(len, batches)) < 3


def _copies_in_place(original: Any) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        new, old = (Path(folder) / name for name in ("new", "old"))
        for file in (new, old):
            file.write_bytes(b"x")
        before = old.stat().st_ino
        original(str(new), str(old), overwrite=True)
        return old.stat().st_ino == before


def _names_no_file(original: Any) -> bool:
    from fairseq.data import Dictionary

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("one two three\n")
        file.flush()
        try:
            original(Dictionary(), file.name)
        except Exception as error:
            return Path(file.name).name not in str(error)
    return True


def _keeps_bytes(original: Any) -> bool:
    return bool(original("<0x48> i", "sentencepiece") != "H i")


def _lacks_name(module: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return not hasattr(module, "float")


def _unsafe(torch: Any) -> bool:
    """Whether torch refuses fairseq's checkpoints, which is why they would be read unsafely."""
    import argparse

    data = io.BytesIO()
    torch.save(argparse.Namespace(), data)
    data.seek(0)
    kept = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.load(data, weights_only=True)
    except Exception:
        return True
    finally:
        torch.serialization.add_safe_globals(kept)
    return False


FIXES = {
    "quiet": Fix("warnings:filters", "every command prints warnings of libraries", _always),
    "checkpoints": Fix(
        "fairseq.checkpoint_utils:torch", "checkpoints cannot be read, or run code", _unsafe
    ),
    "saving": Fix(
        "fairseq.file_io:PathManager.copy",
        "an interrupted save loses checkpoint_last.pt",
        _copies_in_place,
    ),
    "resuming": Fix(
        "fairseq.optim.fp16_optimizer:_FP16OptimizerMixin.state_dict",
        "a resumed training differs from an uninterrupted one",
        _lacks("fp32_params"),
    ),
    "literals": Fix("fairseq.models.fconv:eval", "a checkpoint can run code", _always),
    "batching": Fix(
        "fairseq.data.data_utils:batch_by_size", "the last batch is dropped", _drops_last_batch
    ),
    "numpy_aliases": Fix("fairseq.data.data_utils:np", "NumPy has no np.float", _lacks_name),
    "dictionaries": Fix(
        "fairseq.data.dictionary:Dictionary.add_from_file",
        "an error in a dictionary names no file",
        _names_no_file,
    ),
    "bf16": Fix(
        "fairseq.optim.fp16_optimizer:FP16Optimizer.build_optimizer",
        "--bf16 is slow on a GPU and fails on a CPU",
        _has("bf16", "flatten = False"),
    ),
    "distributed": Fix(
        "fairseq.distributed.utils:call_main",
        "torchrun on CPUs starts independent trainings",
        _has("distributed_world_size > 1"),
    ),
    "encoding": Fix(
        "fairseq_cli.interactive:buffered_read",
        "fairseq-interactive stops at a byte that is not UTF-8",
        _has("fileinput"),
    ),
    "pieces": Fix("fairseq.data.data_utils:post_process", "byte pieces stay", _keeps_bytes),
    "nan_detector": Fix(
        "fairseq.trainer:NanDetector", "a NaN is reported as a TypeError", _has("backward_hook")
    ),
    "programs": Fix(
        "fairseq_cli.generate:_main", "--num-shards of fairseq-generate does nothing", _always
    ),
}
"""The modules of `compat` that change fairseq."""


def fixes() -> Iterator[Finding]:
    """Applies all fixes and checks each. One fault if torch or fairseq is missing or broken, but
    nothing in an installation for exported models alone."""
    if runtime_only():
        return
    try:
        from fairseq_nart.compat.quiet import keeping_root_logger

        with keeping_root_logger(), contextlib.redirect_stderr(io.StringIO()):
            for program in ("train", "generate", "interactive"):
                importlib.import_module(f"fairseq_cli.{program}")
            importlib.import_module("fairseq_nart.compat").apply()
    except Exception as error:  # the packages' own findings say what to do
        yield Finding(FAULT, "fixes", f"cannot be applied: {error!r}", "see the faults above")
        return
    good = []
    for name, fix in FIXES.items():
        applied, original = _looked_up(fix.place)
        if not applied:
            advice = (
                f"without it {fix.without}. Another package may have changed {fix.place}: install "
                "this package again, in an environment of its own"
            )
            yield Finding(FAULT, f"fix {name}", "not applied", advice)
        elif not _probed(fix.needed, original):
            yield Finding(
                NOTE,
                f"fix {name}",
                "applied, but this fairseq does not seem to need it",
                "please report this; it does no harm",
            )
        else:
            good.append(name)
    if good:
        yield Finding(OK, "fixes", f"applied and needed: {', '.join(good)}")


def _looked_up(place: str) -> tuple[bool, Any]:
    """Whether a place is changed, and what was there before."""
    from fairseq_nart.compat import literals, quiet
    from fairseq_nart.compat._patch import ModuleView

    module, _, path = place.partition(":")
    value: Any = importlib.import_module(module)
    for name in path.split("."):
        value = inspect.getattr_static(value, name, None)
    value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    if isinstance(value, list):
        return any(item[1] and item[1].pattern == quiet.FIRST for item in value), None
    if isinstance(value, ModuleView):
        return True, value._viewed
    if value is literals.evaluate:
        return True, None
    if isinstance(value, types.FunctionType) and hasattr(value, "patched_by"):
        return True, inspect.unwrap(value)
    return False, None


def _probed(needed: Probe, original: Any) -> bool:
    try:
        return needed(original)
    except Exception:  # a fault of another kind is a fault
        return True

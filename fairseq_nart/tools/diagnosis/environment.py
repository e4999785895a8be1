"""Versions, optional parts and devices."""

import importlib
import importlib.metadata
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import fairseq_nart
from fairseq_nart.compat.quiet import keeping_root_logger
from fairseq_nart.tools.benchmark import circumstances
from fairseq_nart.tools.diagnosis.findings import FAULT, NOTE, OK, Finding

TRAINING = "training with fairseq"
REQUIRED = {
    "torch": ("torch", TRAINING),
    "fairseq": ("fairseq-fixed", TRAINING),
    "omegaconf": ("omegaconf", TRAINING),
    "hydra": ("hydra-core", TRAINING),
    "numpy": ("numpy", "everything"),
    "sacrebleu": ("sacrebleu", "BLEU"),
    "sentencepiece": ("sentencepiece", "everything"),
    "tqdm": ("tqdm", "everything"),
}
"""Module to its distribution, and what needs it."""

OPTIONAL = {
    "onnxruntime": "translation with exported models",
    "onnx": "`fairseq-nart export`",
    "ctranslate2": "several times faster `distill`, and in `bench`",
    "matplotlib": "the pictures of `inspect`, the figures of `report`",
    "starlette": "`fairseq-nart serve`",
    "uvicorn": "`fairseq-nart serve`",
    "eflomal": "`align --eflomal` and `phrase-table --eflomal`",
}
"""Module, which is also the name of its distribution, to what it gives."""

MISSING = "not installed"

_FLAGS = {
    r"avx512_vnni|avx_vnni": "int8 products (VNNI)",
    r"avx512_bf16|amx_bf16": "--bf16 (bf16 instructions)",
}


def packages() -> Iterator[Finding]:
    """This package, Python, and the packages that are needed or optional."""
    where = Path(fairseq_nart.__file__).parent
    yield Finding(
        OK, "fairseq_nart", f"{fairseq_nart.__version__}, {where.parent.name}/{where.name}"
    )
    yield Finding(OK, "python", f"{platform.python_version()}, {platform.platform()}")
    bare = runtime_only()
    for module, (name, purpose) in REQUIRED.items():
        state, text = _imported(module, name)
        advice = ""
        if state != OK and bare and purpose != "everything":
            state, advice = NOTE, f"{purpose} needs it, exported models do not"
        elif state != OK:
            state, advice = FAULT, f"{purpose} needs it: install the whole package again"
        yield Finding(state, name, text, advice)
    for name, purpose in OPTIONAL.items():
        state, text = _imported(name, name)
        gives = f"pip install {name} gives {purpose}"
        if bare and name == "onnxruntime" and state == NOTE:  # nothing could translate
            state = FAULT
        yield Finding(state, name, text, "" if state == OK else gives)


def runtime_only() -> bool:
    """Whether this is an installation for exported models, with neither torch nor fairseq."""
    return all(_imported(name, name) == (NOTE, MISSING) for name in ("torch", "fairseq"))


def _imported(module: str, name: str) -> tuple[str, str]:
    """Whether a module can be imported, and its version or the reason."""
    try:
        with keeping_root_logger():
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return NOTE, MISSING
        return FAULT, f"cannot be imported: {error}"
    except Exception as error:  # a broken installation can raise anything
        return FAULT, f"cannot be imported: {' '.join(str(error).split())[:200]}"
    try:
        return OK, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return OK, "unknown version"


def devices() -> Iterator[Finding]:
    """The CPU, what its instructions make fast, the memory, and the GPUs."""
    machine = circumstances.machine("cpu")
    text = f"{machine.cpu}, {machine.cores} usable cores, {machine.memory_gib:.0f} GiB memory"
    yield Finding(OK, "cpu", text)
    file = Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)", file.read_text() if file.exists() else "", re.M)
    for pattern, purpose in _FLAGS.items():
        if flags and re.search(pattern, flags[1]):
            yield Finding(OK, "cpu", f"fast {purpose}")
        else:
            yield Finding(NOTE, "cpu", f"no fast {purpose}", "use float32 where speed matters")
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        yield Finding(NOTE, "gpu", "torch sees none", "everything runs on the CPU")
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        size = about.total_memory / 2**30
        yield Finding(
            OK, f"gpu {number}", f"{about.name}, {size:.0f} GiB, CUDA {torch.version.cuda}"
        )

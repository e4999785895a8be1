"""Rules for the structure of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH_ONLY = ["crf", "ctc", "dag", "latent", "layers", "losses", "generation"]


def sources():
    return sorted((ROOT / "fairseq_nart").rglob("*.py"))


def test_torch_only_packages_do_not_import_fairseq():
    for file in sources():
        if file.relative_to(ROOT / "fairseq_nart").parts[0] in TORCH_ONLY:
            text = file.read_text("utf-8")
            assert not re.search(r"^\s*(from|import) fairseq(\.|\s)", text, re.M), file


def test_runtime_imports_neither_torch_nor_fairseq():
    """Not even in a function, or through the modules that it shares with the plugin."""
    files = sorted((ROOT / "fairseq_nart" / "runtime").glob("*.py"))
    for file in files:
        found = re.findall(r"^\s*(?:from|import) (\w+)", file.read_text("utf-8"), re.M)
        assert not {"torch", "fairseq", "onnx"} & set(found), file
    names = [f"fairseq_nart.runtime.{file.stem}" for file in files if file.stem != "__init__"]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert not {"torch", "fairseq", "hydra", "omegaconf"} & set(done.stdout.split())


LEVELS = [
    *(
        ["errors", "options", "text", "subwords", "files"],
        ["crf"],
        ["losses"],
        ["layers", "ctc", "dag"],
    ),
    *(["latent"], ["generation"], ["runtime"], ["compat"], ["data"], ["teacher"]),
    *(["models", "criterions"], ["tasks"], ["hub", "extensions"], ["export"], ["server"]),
    *(["tools"], ["cli"]),
]
"""Packages and modules, lowest first. They import from their own and from lower levels only."""


def test_no_import_from_a_higher_level():
    package = ROOT / "fairseq_nart"
    level = {part: n for n, group in enumerate(LEVELS) for part in group}
    for file in sources():
        part = file.relative_to(package).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        text = file.read_text("utf-8")
        imports = re.findall(r"^ *from fairseq_nart(?:\.(\w+)\S*)? import (\w+)", text, re.M)
        for name in {module or imported for module, imported in imports} - {"__version__"}:
            assert level[name] <= level[part], f"{file} imports from {name}"


def test_package_import_is_silent_and_does_not_load_torch():
    code = "import fairseq_nart, sys; assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == done.stderr == ""


@pytest.mark.parametrize(
    "file",
    [*sources(), *sorted((ROOT / "tests").rglob("*.py"))],
    ids=lambda f: str(f.relative_to(ROOT)),
)
def test_files_have_at_most_400_lines(file):
    assert len(file.read_text("utf-8").splitlines()) <= 400

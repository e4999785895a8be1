"""Rules of the house that a machine can check."""

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fairseq import options
from fairseq.models import ARCH_MODEL_REGISTRY

from fairseq_nart import cli
from fairseq_nart.tasks.nart_translation import NartTranslationTask

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TORCH_ONLY = ["crf", "ctc", "layers", "losses", "generation"]


def sources():
    return sorted((ROOT / "fairseq_nart").rglob("*.py"))


def test_torch_rooms_do_not_import_fairseq():
    for file in sources():
        if file.relative_to(ROOT / "fairseq_nart").parts[0] in TORCH_ONLY:
            text = file.read_text("utf-8")
            assert not re.search(r"^\s*(from|import) fairseq(\.|\s)", text, re.M), file


def test_importing_the_package_is_silent_and_light():
    code = "import fairseq_nart, sys; assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == done.stderr == ""


def test_readme_tree_is_the_tree():
    """Every file that the README's tree names exists, and every module stands in it."""
    text = README.read_text("utf-8")
    tree = re.search(r"```\nfairseq_nart/\n(.*?)```", text, re.S)
    assert tree, "the README has no file tree"
    named, folder = set(), ROOT / "fairseq_nart"
    for line in tree[1].splitlines():
        if entry := re.match(r"  ([\w/]+/)", line):
            folder = ROOT / "fairseq_nart" / entry[1]
        home = folder if line.startswith("    ") else ROOT / "fairseq_nart"
        named |= {home / name for name in re.findall(r"\S+\.py", line)}
    for file in named:
        assert file.exists(), file
    missing = {f for f in sources() if f.name != "__init__.py"} - named
    assert not missing, sorted(missing)


def test_readme_commands_name_real_options():
    """Each `--option` in the README's shell blocks is one of fairseq's, ours or a tool's."""
    text = README.read_text("utf-8")
    known = set()
    for parser in (
        options.get_training_parser(),
        options.get_interactive_generation_parser(),
        options.get_preprocessing_parser(),
    ):
        known |= set(parser._option_string_actions)
    extra = options.get_parser("all")
    for arch in ("nart_dcrf", "nart_ctc"):
        ARCH_MODEL_REGISTRY[arch].add_args(extra)
    NartTranslationTask.add_args(extra)
    known |= set(extra._option_string_actions) | {"--sentencepiece-model"}
    for module in cli.TOOLS:
        tool = argparse.ArgumentParser()
        importlib.import_module(f"fairseq_nart.tools.{module}").add_arguments(tool)
        known |= set(tool._option_string_actions)
    used = set()
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        commands = re.sub(r"^\s*(pip|env|make|python|git) .*$", "", block, flags=re.M)
        used |= set(re.findall(r"(?<=\s)--[a-z][a-z0-9-]+", commands))
    assert used, "no commands found"
    assert used <= known, used - known


@pytest.mark.parametrize("file", sources(), ids=lambda f: str(f.relative_to(ROOT)))
def test_files_hold_one_concept(file):
    assert len(file.read_text("utf-8").splitlines()) <= 500


def test_readme_crf_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)
    (example,) = (block for block in blocks if "LinearChainCRF" in block)
    names = {}
    exec(example, names)
    assert names["tokens"].shape == (2, 7) and names["loss"] > 0

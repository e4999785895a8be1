"""The runtime works in an environment without torch and fairseq."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from exported import export_model
from toys import build, build_teacher

from fairseq_nart import runtime

ROOT = Path(__file__).parents[2]
LINES = ["heute muss der mann lesen .", ""]
DEPENDENCIES = {"numpy", "onnxruntime", "sentencepiece", "tqdm"}

FORBID = """
import importlib.abc, sys

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Forbidden())
"""
ABSENT = ("torch", "fairseq", "hydra", "omegaconf", "onnx", "sacrebleu", "matplotlib", "scipy")


def run(code, absent=ABSENT, *words, given=""):
    """A Python program in which the modules `absent` cannot be imported."""
    program = FORBID.format(names=set(absent)) + code
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=ROOT,
        input=given,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


@pytest.fixture(scope="module", params=["nart_dcrf", "nart_fertility", "nart_refinement"])
def folder(request, task, tmp_path_factory):
    """An exported model with a teacher, with several candidates."""
    folder = tmp_path_factory.mktemp("export") / "model"
    model, teacher = build(task, f"{request.param}_tiny"), build_teacher(task, "transformer")
    return export_model(folder, task, model, teacher)


def test_runtime_translates_without_torch(folder):
    code = f"""
from fairseq_nart import runtime
model = runtime.load(sys.argv[1], rescore=True)
print(*model.translate({LINES!r}), sep="\\n")
assert not set({ABSENT!r}) & set(sys.modules)
"""
    done = run(code, ABSENT, folder)
    assert (done.stderr, done.returncode) == ("", 0)
    expected = runtime.load(folder, rescore=True).translate(LINES)
    assert done.stdout.split("\n")[:-1] == expected


def test_program_translates_without_torch(folder):
    code = "from fairseq_nart.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["translate", "--model", folder]
    done = run(code, ABSENT, *words, given="".join(f"{line}\n" for line in LINES))
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split("\n")[:-1] == runtime.load(folder).translate(LINES)


@pytest.mark.parametrize("command", [["translate", "--model"], ["serve"]])
def test_missing_onnxruntime_is_reported_in_one_line(command, folder):
    code = "from fairseq_nart.cli import main; sys.exit(main(sys.argv[1:]))"
    done = run(code, (*ABSENT, "onnxruntime"), *command, folder, given="mann\n")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.count("\n") == 1 and "pip install onnxruntime" in done.stderr


def imported(file):
    """Top-level names that a file imports, but not for annotations alone."""
    tree = ast.parse(file.read_text("utf-8"))
    typing = [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    ]
    for node in ast.walk(tree):
        if node in typing:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_modules_of_the_runtime_need_these_packages_alone():
    """Those of a user who installs the package without its dependencies."""
    code = """
from fairseq_nart import runtime
from fairseq_nart.runtime import by_length, ctc, dag, fertility, latent, mask_predict, refinement
from fairseq_nart.tools import translate
ours = (name for name in sys.modules if name.split(".")[0] == "fairseq_nart")
print(*(sys.modules[name].__file__ for name in ours))
"""
    done = run(code)
    assert not done.stderr
    files = [Path(name) for name in done.stdout.split()]
    names = {file.relative_to(ROOT).as_posix() for file in files}
    assert {"fairseq_nart/layers/noise.py", "fairseq_nart/runtime/scorer.py"} <= names
    known = DEPENDENCIES | {"fairseq_nart"} | sys.stdlib_module_names
    for file in files:
        assert not set(imported(file)) - known, file

"""The sdist and the wheel, installed into empty environments outside the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from fairseq_nart import runtime

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[1]
LINES = ["heute muss der mann lesen .", ""]
TEXT = "".join(f"{line}\n" for line in LINES)

DEMO = """
import run

run.SIZES = {"train": 200, "valid": 10, "test": 10}
run.TEACHER_UPDATES, run.SMALL_UPDATES = 2, (2, 2)
run.main()
"""


def shell(folder, script, **variables):
    """Runs a script of bash in `folder`, which does not see the checkout; returns its output."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    shell(folder, f"python -m build --no-isolation --outdir . {ROOT}")
    (file,) = folder.glob("*.tar.gz")
    return file


@pytest.fixture(scope="module")
def wheel(sdist):
    """Built from the sdist."""
    (file,) = sdist.parent.glob("*.whl")
    return file


def committed():
    """The files of the checkout that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return set(subprocess.check_output(command, cwd=ROOT, text=True).split())


def test_sdist_holds_the_checkout(sdist):
    with tarfile.open(sdist) as archive:
        names = {x.name.partition("/")[2] for x in archive if x.isfile()}
    assert {x for x in committed() if not x.startswith(".")} <= names
    generated = {x for x in names - committed() if not x.startswith("fairseq_nart.egg-info/")}
    assert generated == {"PKG-INFO", "setup.cfg"}


def test_wheel_holds_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {x for x in names if ".dist-info/" in x}
    assert names - about == {x for x in committed() if x.startswith("fairseq_nart/")}
    assert any(x.endswith(".dist-info/licenses/LICENSE") for x in about)


def test_wheel_translates_without_torch(wheel, tmp_path):
    """Installed by the commands of the documentation."""
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    (script,) = re.findall(r"## Install without torch\n.*?```bash\n(.*?)```", page, re.S)
    shutil.copy(wheel, tmp_path)
    shutil.copytree(runtime.demo_folder(), tmp_path / "my_model")
    (tmp_path / "text.de").write_text(TEXT)
    shell(tmp_path, script)
    expected = runtime.load(runtime.demo_folder()).translate(LINES)
    assert (tmp_path / "text.en").read_text().split("\n")[:-1] == expected
    with_shipped_model = "translator/bin/fairseq-nart translate text.de"
    assert shell(tmp_path, with_shipped_model).split("\n")[:-1] == expected
    installed = shell(tmp_path, "ls translator/lib/python*/site-packages")
    assert not {"torch", "fairseq"} & set(installed.split())


def test_demo_runs_from_the_wheel_and_the_examples_of_the_sdist(sdist, wheel, tmp_path):
    """With a small corpus and few updates, it makes the model that the package contains."""
    install = f"""
        tar --strip-components 1 -xf {sdist} {sdist.name.removesuffix(".tar.gz")}/examples
        python -m venv full
        full/bin/pip install torch=={version("torch")} "setuptools>=77" wheel cython numpy
        env -u CUDA_HOME full/bin/pip install --no-build-isolation \\
            "{wheel}[ctranslate2,export,plots,serve]"
    """
    shell(tmp_path, install)
    demo = f"full/bin/python -c '{DEMO}' --ship --out demo"
    printed = shell(tmp_path, demo, PYTHONPATH=str(tmp_path / "examples" / "demo"))
    assert "shipped: fairseq_nart/runtime/demo" in printed
    (tmp_path / "text.de").write_text(TEXT)
    translate = "full/bin/fairseq-nart translate text.de --model fairseq_nart/runtime/demo"
    assert len(shell(tmp_path, translate).split("\n")[:-1]) == len(LINES)
    shutil.rmtree(tmp_path / "full")  # 1.7 GB, which pytest would keep

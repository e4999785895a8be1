"""Rules of the house that a machine can check."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH_ONLY = ["crf", "ctc", "layers", "losses", "generation"]


def sources():
    return sorted((ROOT / "fairseq_nart").rglob("*.py"))


def test_torch_rooms_do_not_import_fairseq():
    for file in sources():
        if file.relative_to(ROOT / "fairseq_nart").parts[0] in TORCH_ONLY:
            text = file.read_text("utf-8")
            assert not re.search(r"^\s*(from|import) fairseq(\.|\s)", text, re.M), file


ROOMS = [
    *(["errors", "options", "text", "subwords", "files"], ["crf"], ["losses"], ["layers", "ctc"]),
    *(["generation"], ["compat"], ["data"], ["teacher"], ["models", "criterions"], ["tasks"]),
    *(["hub", "extensions"], ["runtime"], ["server"], ["tools"], ["cli"]),
]
"""From the ground up: a room imports from those before it, and from its own line."""


def test_no_room_imports_from_one_above():
    package = ROOT / "fairseq_nart"
    level = {room: n for n, rooms in enumerate(ROOMS) for room in rooms}
    for file in sources():
        room = file.relative_to(package).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        text = file.read_text("utf-8")
        imports = re.findall(r"^ *from fairseq_nart(?:\.(\w+)\S*)? import (\w+)", text, re.M)
        for name in {module or imported for module, imported in imports}:
            assert level[name] <= level[room], f"{file} imports from {name}"


def test_importing_the_package_is_silent_and_light():
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
def test_files_hold_one_concept(file):
    assert len(file.read_text("utf-8").splitlines()) <= 400

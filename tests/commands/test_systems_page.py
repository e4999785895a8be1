"""docs/systems.md: its commands train and decode every system, here with tiny models."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import toys
from fairseq.models import MODEL_REGISTRY

from fairseq_nart import cli
from fairseq_nart.models._registry import SYSTEMS

PAGE = (Path(__file__).parents[2] / "docs" / "systems.md").read_text("utf-8")
SMALL_TEACHERS = {words[1].removesuffix("_tiny"): words[2:] for words in toys.TEACHERS.values()}
FEW = ["--max-update", "2", "--max-tokens", "400", *toys.IN_PROCESS]
STAND_IN = """#!{python}
import json, os, sys
print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]))
"""


@dataclass(frozen=True)
class Row:
    """A row of the tables: its name, the commands that train it and the one that decodes it."""

    name: str
    train: tuple[str, ...]
    decode: str


def read_rows():
    rows, trained = [], {}  # what trains a row, by the cells that stand for it in other rows
    for name, *cells in re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.M):
        train, decode = (tuple(re.findall(r"`([^`]+)`", cell)) for cell in cells)
        if decode:  # not a header
            train = train or trained[cells[0]]
            trained['"'] = trained[f"as {name}"] = train
            rows.append(Row(name, train, *decode))
    return rows


ROWS = read_rows()


class Shell:
    """Runs the page's commands in this process, each training once."""

    def __init__(self, folder, data):
        distilled = shutil.copytree(data, folder / "DISTILLED")
        # fairseq's programs find the plugin by its name, these functions do not.
        plugin = Path(cli.__file__).parent
        self.folder = folder
        self.paths = {"DATA": data, "DISTILLED": distilled, "fairseq_nart": plugin}
        self.done = set()
        for name in ("fairseq-train", "fairseq-generate", "fairseq-nart"):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(STAND_IN.format(python=sys.executable))
            program.chmod(0o755)
        commands = {line for row in ROWS for line in (*row.train, row.decode)}
        self.words = dict(zip(commands, self.expanded(commands), strict=True))

    def expanded(self, commands):
        """The words of each command, after bash has read the page's definitions."""
        (block,) = re.findall(r"```bash\n(.*?)```", PAGE, re.S)
        assert "size=cpu" in block
        script = "\n".join(["set -eu", block.replace("size=cpu", "size=tiny"), *commands])
        path = f"{self.folder}/bin:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def run(self, command):
        """Runs a command of the page, and before it what trains the models that it reads."""
        program, *words = (str(self.paths.get(word, word)) for word in self.words[command])
        if program == "fairseq-generate":
            toys.fairseq_generate(words[0], words[words.index("--path") + 1], *words[1:])
        elif program == "fairseq-nart":
            assert cli.main(words) == 0
        else:
            arch = words[words.index("--arch") + 1].removesuffix("_tiny")
            small = SMALL_TEACHERS.get(arch, toys.SMALL)
            save = words[len(words) - words[::-1].index("--save-dir")]
            toys.fairseq_train(words[0], Path(save), *words[1:], *small, *FEW)

    def train(self, row):
        for command in row.train:
            if command in self.done:
                continue
            for other in ROWS:
                if self.reads(command, other) and other.train != row.train:
                    self.train(other)
            self.run(command)
            self.done.add(command)

    def reads(self, command, row):
        """Whether a command reads the checkpoint of a row."""
        saved = self.words[row.train[-1]]
        folder = saved[len(saved) - saved[::-1].index("--save-dir")]
        return f"{folder}/checkpoint_best.pt" in self.words[command]


@pytest.fixture(scope="module")
def shell(tmp_path_factory, data):
    return Shell(tmp_path_factory.mktemp("systems"), data)


def test_every_system_is_trained_and_decoded():
    """The registered systems and teachers of this package: tests register others."""
    named = {line.split()[1] for row in ROWS for line in row.train if line.startswith("train ")}
    ours = {x.name for x in SYSTEMS.values() if MODEL_REGISTRY[x.model].__module__[:7] == "fairseq"}
    assert named == ours


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_trains_and_decodes(row, shell, monkeypatch, capsys):
    monkeypatch.chdir(shell.folder)
    shell.train(row)
    for other in ROWS:
        if shell.reads(row.decode, other):
            shell.train(other)
    capsys.readouterr()
    shell.run(row.decode)
    assert len(toys.lines_of(capsys.readouterr().out, "H")) == 17

"""Kills programs at random moments and runs them again until they end.

    python tests/killing.py PROGRAM KILLS SEED FOLDER

Each output must be byte-identical to that of a run that was not interrupted, apart from times. A
line of JSON with the counts is printed. Programs run in forks of this process, which has imported
everything, so a start takes a fraction of a second. Half of the kills come at a random Python call,
so they hit every step and every save alike; the other half after a random time.
"""

import argparse
import dataclasses
import json
import os
import random
import runpy
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path[:0] = [str(Path(__file__).parent), str(EXAMPLES), str(EXAMPLES / "demo")]

import torch  # noqa: E402
import toys  # noqa: E402
from fairseq.trainer import Trainer  # noqa: E402

from fairseq_nart.cli import main  # noqa: E402
from fairseq_nart.compat.checkpoints import load_checkpoint  # noqa: E402
from fairseq_nart.tools.benchmark.records import Translation, read  # noqa: E402

KILLS_PER_RUN = 5
OUT = "out"


@dataclasses.dataclass(frozen=True)
class Program:
    """What is killed. It runs in an empty folder and writes to `OUT`."""

    run: Callable[[Path], None]
    """Takes the folder of inputs; an exception is a failure."""
    content: Callable[[Path], dict[str, Any]]
    """What must be equal in the folder at the end."""
    look: Callable[[Path], None] = lambda folder: None
    """Called after every kill: fails if something is half-written."""


# Training

TRAINING = [
    *("--arch", "nart_dcrf_tiny", *toys.SMALL[:4], "--dropout", "0.1", "--lr", "1e-2"),
    *("--max-update", "10", "--save-interval-updates", "2", "--keep-interval-updates", "2"),
    *("--keep-best-checkpoints", "2", "--no-epoch-checkpoints", "--log-interval", "1"),
]


def train(inputs: Path, *words: str) -> None:
    """Also records the sentences and the loss of every update, as often as it is made."""
    step = Trainer.train_step

    def recorded(trainer: Any, samples: list[Any], *rest: Any) -> Any:
        log = step(trainer, samples, *rest)
        ids = [sample["id"].tolist() for sample in samples]
        loss = float(log["loss"])
        with open("updates.jsonl", "a") as stream:
            stream.write(f"{json.dumps([trainer.get_num_updates(), ids, loss])}\n")
        return log

    Trainer.train_step = recorded
    toys.fairseq_train(inputs / "bin", Path(OUT), *TRAINING, *words)


def trained(folder: Path) -> dict[str, Any]:
    lines = {line for line in (folder / "updates.jsonl").read_text().split("\n") if line}
    content: dict[str, Any] = {"updates": sorted(map(json.loads, lines))}
    for file in (folder / OUT).iterdir():
        state = load_checkpoint(file)
        for timed in ("metrics", "previous_training_time"):
            state["extra_state"].pop(timed)
        del state["optimizer_history"][:-1]  # one entry for each time that training was resumed
        content[file.name] = list(leaves(state))
    return content


def no_part_is_taken_for_a_checkpoint(folder: Path) -> None:
    for file in folder.glob(f"{OUT}/checkpoint*.pt"):
        load_checkpoint(file)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The places and values in nested containers; tensors as bytes."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}/{index}")
    elif isinstance(value, torch.Tensor):
        yield (
            path,
            (value.dtype, tuple(value.shape), value.flatten().view(torch.uint8).numpy().tobytes()),
        )
    else:
        yield path, repr(value)


# Tools


def tool(*words: object) -> None:
    if main([str(word) for word in words]) != 0:
        raise RuntimeError(f"fairseq-nart {words[0]} failed")


def distill(inputs: Path) -> None:
    words = ("--out", OUT, "--beam", "2", "--max-tokens", "60", "--backend", "fairseq")
    tool("distill", inputs / "bin", "--path", inputs / "teacher/checkpoint_last.pt", *words)


def export(inputs: Path) -> None:
    words = ("--data", inputs / "bin", "--out", OUT, "--precision", "float32")
    tool("export", inputs / "student/checkpoint_last.pt", *words)


def average(inputs: Path) -> None:
    tool("average", inputs / "student", "--last", "2", "--out", OUT)


def align(inputs: Path) -> None:
    if not Path(OUT).exists():  # it writes into the data
        shutil.copytree(inputs / "bin", "copy", dirs_exist_ok=True)
        Path("copy").rename(OUT)
    tool("align", OUT, "--teacher", inputs / "teacher/checkpoint_last.pt", "--splits", "train")


def segment(inputs: Path) -> None:
    names = ("--languages", "de", "en", "--splits", "train", "valid", "test")
    sys.argv = ["segment.py", str(inputs / "text"), OUT, *names, "--pieces", "90"]
    runpy.run_path(str(EXAMPLES / "segment.py"), run_name="__main__")


def bench(inputs: Path) -> None:
    system = f'family = "NART"\ncheckpoint = "{inputs}/student/checkpoint_last.pt"\n'
    Path("plan.toml").write_text(
        f'binarised = "{inputs}/bin"\n[[test]]\nname = "toy"\nsource = "{inputs}/text/test.de"\n'
        f'references = "{inputs}/text/test.en"\n[[system]]\n{system}[[system]]\n{system}'
        "length_candidates = 3\n"
    )
    words = ("--out", OUT, "--device", "cpu", "--sentences", "3", "--repeats", "2")
    tool("bench", "plan.toml", *words, "--stages", "latency", "translations")


def measured(folder: Path) -> dict[str, Any]:
    """Which records there are, in any order, and every translation."""
    records = read(folder / OUT)
    outputs = [x.outputs for x in records if isinstance(x, Translation)]
    content = {name: (folder / OUT / name).read_bytes() for name in outputs}
    return {**content, "records": sorted(map(str, (x.subject for x in records)))}


def files(folder: Path) -> dict[str, Any]:
    """All files but the working files of distill, and the measured seconds."""
    content: dict[str, Any] = {}
    for file in sorted(x for x in folder.rglob("*") if x.is_file() and x.parent.name != "parts"):
        content[str(file.relative_to(folder))] = file.read_bytes()
        if file.name == "distill.json":
            record = json.loads(file.read_text("utf-8"))
            record.pop("seconds"), record.pop("runs")
            content[str(file.relative_to(folder))] = record
    return content


def exported_or_absent(folder: Path) -> None:
    if (folder / OUT).exists():
        from fairseq_nart import runtime

        runtime.load(folder / OUT, threads=1)


PROGRAMS = {
    "train": Program(train, trained, no_part_is_taken_for_a_checkpoint),
    "train_bf16": Program(
        lambda inputs: train(inputs, "--bf16"), trained, no_part_is_taken_for_a_checkpoint
    ),
    "distill": Program(distill, files),
    "export": Program(export, files, exported_or_absent),
    "bench": Program(bench, measured),
    "segment": Program(segment, files),
    "average": Program(average, files),
    "align": Program(align, files),
}


# Killing


class Calls:
    """Counts the calls and returns of Python's functions; kills the process at number `last`."""

    def __init__(self, last: int | None) -> None:
        self.last, self.count = last, 0

    def __call__(self, *_event: Any) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def start(program: Program, inputs: Path, folder: Path, last: int | None) -> int:
    """Runs the program in a fork; returns its process id."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        calls = Calls(last)
        threading.setprofile(calls)
        sys.setprofile(calls)
        program.run(inputs)
        sys.setprofile(None)
        Path("calls").write_text(str(calls.count))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(pid: int) -> bool:
    """Waits for a process; whether it ended by itself. It must not have failed."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        raise RuntimeError("the program failed")
    return True


def campaign(name: str, wanted: int, seed: int, inputs: Path, work: Path) -> dict[str, Any]:
    """Kills a program `wanted` times; returns the counts. RuntimeError if an output differs."""
    program, chance = PROGRAMS[name], random.Random(seed)

    def fresh(label: str) -> Path:
        folder = work / label
        folder.mkdir(parents=True)
        return folder

    def content(folder: Path) -> dict[str, Any]:
        for extra in ("log", "calls"):
            (folder / extra).unlink(missing_ok=True)
        return program.content(folder)

    whole, begun = fresh("whole"), time.monotonic()
    ended(start(program, inputs, whole, None))
    seconds, calls = time.monotonic() - begun, int((whole / "calls").read_text())
    expected = content(whole)
    counts = {"program": name, "kills": 0, "starts": 1, "outputs": 0, "different": 0}
    while counts["kills"] < wanted:
        folder, kills = fresh(f"run{counts['outputs']}"), 0
        while kills < min(KILLS_PER_RUN, wanted - counts["kills"]):
            counts["starts"] += 1
            if (counts["starts"] + kills) % 2:
                pid = start(program, inputs, folder, chance.randint(1, calls))
            else:
                pid = start(program, inputs, folder, None)
                time.sleep(chance.uniform(0, seconds))
                os.kill(pid, signal.SIGKILL)
            if ended(pid):
                break
            kills += 1
            program.look(folder)
        counts["starts"] += 1
        ended(start(program, inputs, folder, None))
        counts["kills"] += kills
        counts["outputs"] += 1
        if (own := content(folder)) != expected:
            counts["different"] += 1
            names = [x for x in {**own, **expected} if own.get(x) != expected.get(x)]
            print(f"{folder} differs from {whole} in {names}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    return counts


def prepare(inputs: Path) -> None:
    """Data, a teacher and a student."""
    text = inputs / "text"
    text.mkdir(parents=True)
    toys.write_text(text, {"train": 60, "valid": 10, "test": 5})
    data = toys.binarise(text, inputs / "bin", "--joined-dictionary")
    words = ["--max-update", "5", "--lr", "1e-2", "--disable-validation"]
    toys.fairseq_train(
        data, inputs / "teacher", "--arch", "nart_teacher_tiny", *toys.SMALL_TEACHER, *words
    )
    words += ["--save-interval-updates", "2"]  # more than one for `average`
    toys.fairseq_train(data, inputs / "student", "--arch", "nart_dcrf_tiny", *toys.SMALL, *words)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("kills", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a fork has no threads of its parent
    inputs = options.folder.resolve() / "inputs"
    if not inputs.exists():
        prepare(inputs)
    result = campaign(
        options.program, options.kills, options.seed, inputs, inputs.parent / options.program
    )
    print(json.dumps(result))
    sys.exit(result["different"])

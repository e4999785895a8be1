"""The demo: a made corpus, a teacher, three students on raw and on distilled text, a report.

    python examples/demo/run.py [--out runs/demo]

Finished steps are kept, and a training that was cut goes on from its last checkpoint: run it again
at any time.
"""

import argparse
import fcntl
import hashlib
import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grammar
from tqdm import tqdm

from fairseq_nart.cli import main as fairseq_nart
from fairseq_nart.files import replacing
from fairseq_nart.tools.benchmark.records import Translation, read

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SEED = 1
SIZES = {"train": 8000, "valid": 300, "test": 300}
TEACHER_UPDATES = 300
NART_UPDATES = 500
CRF_UPDATES = 150
LENGTHS = [1, 9]
NAMES = {"nart": "NART", "crf": "NART-CRF", "dcrf": "NART-DCRF"}


class Step:
    """A named piece of work whose end is remembered in a file that says what was done."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.mark = folder / f"{name}.done"
        self.log = folder / f"{name}.log"

    def is_done(self, what: str) -> bool:
        return self.mark.exists() and self.mark.read_text() == what

    def finish(self, what: str) -> None:
        self.mark.write_text(what)

    def command(self, *words: object, updates: int = 0, anew: Path | None = None) -> None:
        """Runs a command with its output in the step's log and, for trainings, a progress bar.

        After what a cut call has left in the folder `anew` is removed.
        """
        line = [str(word) for word in words]
        what = " ".join(line)
        if self.is_done(what):
            return
        if anew:
            shutil.rmtree(anew, ignore_errors=True)
        line[0] = str(BIN / line[0])
        with (
            open(self.log, "a", encoding="utf-8") as log,
            tqdm(total=updates or 1, desc=f"{self.name:20}", unit="update", leave=True) as bar,
        ):
            process = subprocess.Popen(
                line,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                close_fds=False,  # it holds the lock of `claim` too, should this process be killed
            )
            assert process.stdout is not None
            for text in process.stdout:
                log.write(text)
                if updates and '"num_updates": "' in text and text.rstrip().endswith("}"):
                    record = json.loads(text[text.index("{") :])
                    done = record.get("num_updates") or record.get("train_num_updates", bar.n)
                    bar.update(int(done) - bar.n)
            if process.wait() != 0:
                sys.exit(f"{self.name} failed; its output is in {self.log}")
            bar.update(bar.total - bar.n)
        self.finish(what)


def claim(out: Path) -> None:
    """Makes `out` and locks it until this process and its commands have ended.

    Exits where fairseq could not read the path, where `out` holds other files than a demo's, or
    while another process has the lock.
    """
    if set(":,") & set(str(out)):  # it splits paths of data at colons and those of text at commas
        sys.exit(f"{out}: fairseq reads no path with a colon or comma: give another --out")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / "text/train.de").exists():
        sys.exit(f"{out} holds files that no demo wrote: give another --out")
    folder = os.open(out, os.O_RDONLY)
    os.set_inheritable(folder, True)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another demo uses {out}: wait until it has ended, or give another --out")


def write_corpus(folder: Path) -> list[grammar.Pair]:
    """Writes train, valid and test as text; returns the test pairs.

    Exits where a file with another text exists.
    """
    pairs = grammar.corpus(SEED)
    parts = {split: list(itertools.islice(pairs, size)) for split, size in SIZES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in parts.items():
        for language, lines in (("de", [p.source for p in part]), ("en", [p.shown for p in part])):
            file = folder / f"{split}.{language}"
            text = "".join(f"{line}\n" for line in lines).encode()
            if not file.exists():
                with replacing(file) as temporary:
                    temporary.write_bytes(text)
            elif file.read_bytes() != text:
                sys.exit(f"{file} is not the text of this demo: move it, or give another --out")
    return parts["test"]


def precision() -> list[str]:
    """--bf16 where the machine has instructions for it: where it has none, float32 is faster."""
    # Not above: the benchmark starts processes that import this file and are to hold no torch.
    import torch

    if torch.cuda.is_available():
        known = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = "bf16" in Path("/proc/cpuinfo").read_text("utf-8")
    return ["--bf16"] if known else []


def train(out: Path, name: str, data: Path, updates: int, *words: object) -> Path:
    """fairseq-train as a user types it; returns the last checkpoint."""
    save = out / name
    Step(out, name).command(
        *("fairseq-train", data, "--user-dir", "fairseq_nart", "--max-tokens", 2048),
        *("--max-update", updates, "--save-dir", save, *precision(), "--no-epoch-checkpoints"),
        *("--disable-validation", "--log-format", "json", "--log-interval", 10),
        *words,
        updates=updates,
    )
    return save / "checkpoint_last.pt"


def build(out: Path) -> tuple[list[grammar.Pair], Path, dict[tuple[str, str], Path]]:
    """Corpus, teacher, distillation and the six students; all kept in `out`."""
    test = write_corpus(out / "text")
    raw, distilled = out / "raw", out / "distilled"
    Step(out, "binarise").command(
        *("fairseq-preprocess", "-s", "de", "-t", "en", "--joined-dictionary", "--destdir", raw),
        *(x for split in SIZES for x in (f"--{split}pref", out / "text" / split)),
        anew=raw,
    )
    teacher = train(out, "teacher", raw, TEACHER_UPDATES, "--arch", "nart_teacher_tiny")
    Step(out, "distill").command(
        "fairseq-nart", "distill", raw, "--path", teacher, "--out", distilled
    )
    students = {}
    for text, data in (("raw", raw), ("distilled", distilled)):
        start = teacher
        for system, updates in (
            ("nart", NART_UPDATES),
            ("crf", CRF_UPDATES),
            ("dcrf", CRF_UPDATES),
        ):
            arch = "nart_tiny" if system == "nart" else f"nart_{system}_tiny"
            name = f"{system}_{text}"
            checkpoint = train(out, name, data, updates, "--arch", arch, "--init-from", start)
            students[system, text] = checkpoint
            if system == "nart":
                start = checkpoint
    return test, teacher, students


def plan(out: Path, teacher: Path, students: dict[tuple[str, str], Path]) -> str:
    """What `fairseq-nart bench` is to measure."""
    tables = [
        f'binarised = "{out / "raw"}"',
        f'[[test]]\nname = "made test set"\nsource = "{out / "text/test.de"}"\n'
        f'references = "{out / "text/test.en"}"',
        f'[[system]]\nfamily = "Transformer"\ncheckpoint = "{teacher}"\nbeam = [4, 1]',
        f'[[system]]\nfamily = "Transformer"\ncheckpoint = "{teacher}"\n'
        'engine = "ctranslate2"\nprecision = ["float32", "int8"]\nbeam = 4',
    ]
    for (system, text), checkpoint in students.items():
        tables.append(
            f'[[system]]\nfamily = "{NAMES[system]}, {text} text"\ncheckpoint = "{checkpoint}"\n'
            f'length_candidates = {LENGTHS}\nrescore_with = "{teacher}"'
        )
    return "\n\n".join(tables) + "\n"


def measure(out: Path, teacher: Path, students: dict[tuple[str, str], Path]) -> Path:
    """Translates and times everything; the run folder, which belongs to these checkpoints."""
    weights = b"".join(file.read_bytes() for file in (teacher, *students.values()))
    run = out / f"bench.{hashlib.sha256(weights).hexdigest()[:8]}"
    file = out / "plan.toml"
    file.write_text(plan(out, teacher, students), encoding="utf-8")
    words = ["--sentences", "50", "--repeats", "2", "--max-batch-size", "8", "--device", "cpu"]
    tool("bench", file, "--out", run, *words)
    return run


def tool(*words: object) -> None:
    """fairseq-nart, as a user types it."""
    if status := fairseq_nart([str(word) for word in words]):
        sys.exit(status)


def judge(outputs: list[str], test: list[grammar.Pair]) -> tuple[float, float]:
    """Percent of outputs that are valid, and that mix several valid ones."""
    pairs = list(zip(outputs, test, strict=True))
    valid = sum(output in pair.valid for output, pair in pairs)
    mixed = sum(grammar.mixes_modes(output, pair.valid) for output, pair in pairs)
    return 100 * valid / len(test), 100 * mixed / len(test)


def shares(run: Path, test: list[grammar.Pair]) -> str:
    """A Markdown table of what `judge` says of each system."""
    lines = ["| system | valid % | mixed modes % |", "|---|---|---|"]
    for record in read(run):
        if isinstance(record, Translation):
            outputs = (run / record.outputs).read_text("utf-8").splitlines()
            valid, mixed = judge(outputs, test)
            lines.append(f"| {record.system} | {valid:.1f} | {mixed:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs = Path(os.environ.get("NART_RUNS", ROOT / "runs"))
    parser.add_argument("--out", type=Path, default=runs / "demo", help="where everything is kept")
    out = parser.parse_args().out.resolve()
    claim(out)
    start = time.perf_counter()
    test, teacher, students = build(out)
    logging.disable(logging.INFO)
    run = measure(out, teacher, students)
    table = shares(run, test)
    (out / "shares.md").write_text(table + "\n", encoding="utf-8")
    named = ["--baseline", "Transformer, beam 4", "--teacher", "Transformer, beam 4"]
    print()
    tool("report", run, "--out", out / "report", "--tokenize", "none", *named)
    print(f"\n{table}\n\n{(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()

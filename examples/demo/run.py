"""The demo: a synthetic corpus, a teacher, three students on raw and on distilled text, a report.

    python examples/demo/run.py [--out runs/demo]
    python examples/demo/run.py --ship    # only trains the small model that the package contains

It can be interrupted and run again: finished steps are skipped, and training resumes from the last
checkpoint.
"""

import argparse
import fcntl
import hashlib
import itertools
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grammar
from tqdm import tqdm

from fairseq_nart.cli import main as fairseq_nart
from fairseq_nart.files import replacing
from fairseq_nart.text import read_lines
from fairseq_nart.tools.benchmark.records import Translation, read

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SEED = 1
SIZES = {"train": 8000, "valid": 300, "test": 300}
TEACHER_UPDATES = 300
NART_UPDATES = 500
CRF_UPDATES = 150
SMALL = ("--embed-dim", 64, "--ffn-embed-dim", 256)
"""The size of the model that is shipped with the package: 0.5 MB in int8."""
SMALL_UPDATES = (1200, 500)
"""Of its NART and its NART-DCRF, which cannot start from the larger teacher."""
LENGTHS = [1, 9]
NAMES = {"nart": "NART", "crf": "NART-CRF", "dcrf": "NART-DCRF"}


class Step:
    """A named step. When it ends, a file records what was done."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.mark = folder / f"{name}.done"
        self.log = folder / f"{name}.log"

    def is_done(self, what: str) -> bool:
        return self.mark.exists() and self.mark.read_text() == what

    def finish(self, what: str) -> None:
        self.mark.write_text(what)

    def command(self, *words: object, updates: int = 0, anew: Path | None = None) -> None:
        """Runs a command unless done, with its output in the step's log and a progress bar.

        First deletes the folder `anew`, which an interrupted call may have left. Exits if the
        command fails.
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
            subprocess.Popen(
                line,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                close_fds=False,  # inherits the lock of `claim`, in case this process is killed
            ) as process,
        ):
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

    Exits if fairseq cannot read the path, if `out` holds files of something else, or if another
    process has the lock.
    """
    if set(":,") & set(str(out)):  # fairseq splits data paths at colons and text paths at commas
        sys.exit(f"{out}: fairseq cannot read paths with a colon or comma: give another --out")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / "text/train.de").exists():
        sys.exit(f"{out} holds files that the demo did not write: give another --out")
    folder = os.open(out, os.O_RDONLY)
    os.set_inheritable(folder, True)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another demo is using {out}: wait until it ends, or give another --out")


def write_corpus(folder: Path) -> list[grammar.Pair]:
    """Writes train, valid and test as text; returns the test pairs.

    Exits if a file with a different text exists.
    """
    corpus = grammar.corpus(SEED)
    splits = {split: list(itertools.islice(corpus, size)) for split, size in SIZES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for split, pairs in splits.items():
        sources, targets = [pair.source for pair in pairs], [pair.shown for pair in pairs]
        for language, lines in (("de", sources), ("en", targets)):
            file = folder / f"{split}.{language}"
            text = "".join(f"{line}\n" for line in lines).encode()
            if not file.exists():
                with replacing(file) as temporary:
                    temporary.write_bytes(text)
            elif file.read_bytes() != text:
                sys.exit(f"{file} is not the text of this demo: move it, or give another --out")
    return splits["test"]


def precision() -> list[str]:
    """--bf16 if the hardware has instructions for it; otherwise float32 is faster."""
    # Not at the top: the benchmark's processes import this file and must not import torch.
    import torch

    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = "bf16" in Path("/proc/cpuinfo").read_text("utf-8")
    return ["--bf16"] if has_bf16 else []


def train(out: Path, name: str, data: Path, updates: int, *words: object) -> Path:
    """Runs fairseq-train as a user would; returns the last checkpoint."""
    save = out / name
    Step(out, name).command(
        *("fairseq-train", data, "--user-dir", "fairseq_nart", "--max-tokens", 2048),
        *("--max-update", updates, "--save-dir", save, *precision(), "--no-epoch-checkpoints"),
        *("--disable-validation", "--log-format", "json", "--log-interval", 10),
        *words,
        updates=updates,
    )
    return save / "checkpoint_last.pt"


def prepare(out: Path) -> tuple[list[grammar.Pair], Path]:
    """Makes the corpus, the teacher and the distilled text in `out`.

    Returns the test pairs and the teacher's checkpoint.
    """
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
    return test, teacher


def train_students(out: Path, teacher: Path) -> dict[tuple[str, str], Path]:
    """Trains the six students; returns their checkpoints by system and text."""
    students = {}
    for text in ("raw", "distilled"):
        data = out / text
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
    return students


def train_small(out: Path) -> Path:
    """Trains the small NART-DCRF on the distilled text; returns its checkpoint."""
    data, (first, second) = out / "distilled", SMALL_UPDATES
    nart = train(out, "small_nart", data, first, "--arch", "nart_tiny", *SMALL)
    words = ("--arch", "nart_dcrf_tiny", *SMALL, "--init-from", nart)
    return train(out, "small_dcrf", data, second, *words)


def export(out: Path, name: str, checkpoint: Path, data: Path) -> Path:
    """Exports a student in int8; returns the folder."""
    folder = out / "models" / name
    words = (checkpoint, "--data", data, "--out", folder)
    Step(out, f"export_{name}").command("fairseq-nart", "export", *words)
    return folder


def plan(out: Path, teacher: Path, students: dict[tuple[str, str], Path]) -> str:
    """The plan for `fairseq-nart bench`."""
    tables = [
        f'binarised = "{out / "raw"}"',
        f'[[test]]\nname = "synthetic test set"\nsource = "{out / "text/test.de"}"\n'
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
    for (system, text), checkpoint in students.items():
        tables.append(
            f'[[system]]\nfamily = "{NAMES[system]}, {text} text"\ncheckpoint = "{checkpoint}"\n'
            'engine = "onnx"\nprecision = "int8"\n'
            f'length_candidates = {LENGTHS}\nrescore_with = "{teacher}"'
        )
    return "\n\n".join(tables) + "\n"


def measure(out: Path, teacher: Path, students: dict[tuple[str, str], Path]) -> Path:
    """Runs the benchmark; returns its run folder, whose name depends on these checkpoints."""
    weights = b"".join(file.read_bytes() for file in (teacher, *students.values()))
    run = out / f"bench.{hashlib.sha256(weights).hexdigest()[:8]}"
    file = out / "plan.toml"
    file.write_text(plan(out, teacher, students), encoding="utf-8")
    words = ["--sentences", "50", "--repeats", "2", "--max-batch-size", "8", "--device", "cpu"]
    tool("bench", file, "--out", run, *words)
    return run


def tool(*words: object) -> None:
    """Runs fairseq-nart as a user would; exits if it fails."""
    if status := fairseq_nart([str(word) for word in words]):
        sys.exit(status)


def judge(outputs: list[str], test: list[grammar.Pair]) -> tuple[float, float]:
    """The percentages of outputs that are valid, and that mix several valid translations."""
    pairs = list(zip(outputs, test, strict=True))
    valid = sum(output in pair.valid for output, pair in pairs)
    mixed = sum(grammar.mixes_modes(output, pair.valid) for output, pair in pairs)
    return 100 * valid / len(test), 100 * mixed / len(test)


def shares(run: Path, test: list[grammar.Pair]) -> str:
    """A Markdown table of each system's results from `judge`."""
    lines = ["| system | valid % | mixed modes % |", "|---|---|---|"]
    for record in read(run):
        if isinstance(record, Translation):
            outputs = read_lines(run / record.outputs)
            valid, mixed = judge(outputs, test)
            lines.append(f"| {record.system} | {valid:.1f} | {mixed:.1f} |")
    return "\n".join(lines)


def repairs(run: Path, test: list[grammar.Pair], count: int = 3) -> str:
    """Examples of test sentences that NART gets wrong and NART-DCRF gets right, as text.

    Both are trained on the original text.
    """
    outputs = {
        record.system: read_lines(run / record.outputs)
        for record in read(run)
        if isinstance(record, Translation)
    }
    nart, dcrf = (outputs[f"{NAMES[name]}, raw text, 1 length"] for name in ("nart", "dcrf"))
    blocks = [
        f"source     {pair.source}\nNART       {one}\nNART-DCRF  {other}"
        for pair, one, other in zip(test, nart, dcrf, strict=True)
        if one not in pair.valid and other in pair.valid
    ]
    return "\n\n".join(blocks[:count])


def shown(*words: object) -> str:
    """A command of fairseq-nart as the reader can type it."""
    binary = BIN / "fairseq-nart"
    program = binary.relative_to(ROOT) if binary.is_relative_to(ROOT) else binary
    return shlex.join([str(program), *map(str, words)])


def translate(sentence: str, model: Path) -> str:
    """Translates a sentence; returns the command and its output, as in a terminal."""
    words = ("translate", "--model", str(model))
    done = subprocess.run(
        [BIN / "fairseq-nart", *words],
        input=f"{sentence}\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return f'$ echo "{sentence}" | {shown(*words)}\n{done.stdout.strip()}'


def ship(model: Path) -> None:
    """Replaces the model in the package."""
    target = ROOT / "fairseq_nart" / "runtime" / "demo"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(model, target)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"shipped: {target.relative_to(ROOT)} ({size / 1000:.0f} KB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs = Path(os.environ.get("NART_RUNS", ROOT / "runs"))
    parser.add_argument("--out", type=Path, default=runs / "demo", help="folder for all files")
    parser.add_argument(
        "--ship", action="store_true", help="train the package's model and put it there, no more"
    )
    options = parser.parse_args()
    out = options.out.resolve()
    claim(out)
    start = time.perf_counter()
    test, teacher = prepare(out)
    if options.ship:
        ship(export(out, "small_dcrf", train_small(out), out / "distilled"))
        return
    students = train_students(out, teacher)
    models = {
        (system, text): export(out, f"{system}_{text}", checkpoint, out / text)
        for (system, text), checkpoint in students.items()
    }
    logging.disable(logging.INFO)
    run = measure(out, teacher, students)
    table = shares(run, test)
    (out / "shares.md").write_text(table + "\n", encoding="utf-8")
    named = ["--baseline", "Transformer, beam 4", "--teacher", "Transformer, beam 4"]
    print()
    tool("report", run, "--out", out / "report", "--tokenize", "none", *named)
    print(f"\n{table}\n\n{(time.perf_counter() - start) / 60:.1f} minutes")
    print("\nWhat the CRF corrects, with systems trained on the original text:\n")
    print(repairs(run, test))
    print("\nTranslate your own sentences with the words of the demo's grammar:\n")
    model = models["dcrf", "distilled"]
    print(translate(test[0].source, model))
    print(f"\nOr in a browser, with the lattice of each sentence:\n\n$ {shown('serve', model)}")
    print(f"\nThe report with its figures: {out / 'report' / 'index.html'}")


if __name__ == "__main__":
    main()

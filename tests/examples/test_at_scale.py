"""Examples for several machines, as far as one machine can run them."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import killing_a_worker, needs_ray
from hard_lines import HARD, plain, random_lines
from toys import SMALL

from fairseq_nart import hub, runtime
from fairseq_nart.export import folder as export
from fairseq_nart.text import decode_lines

ROOT = Path(__file__).parents[2]
SCALE = ROOT / "examples" / "at_scale"
SRUN = """#!/usr/bin/env bash
# Two machines: runs the command twice at a time.
while [[ $1 == --* ]]; do shift; done
for node in 0 1; do SLURM_NODEID=$node "$@" & jobs+=($!); done
for job in "${jobs[@]}"; do wait "$job" || exit 1; done
"""


@pytest.fixture
def slurm(tmp_path):
    """The environment of a job on two machines, which are this one."""
    programs = {"srun": SRUN, "scontrol": "#!/bin/sh\necho 127.0.0.1\necho other\n"}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    job = {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_NNODES": "2", "SLURM_JOB_ID": str(os.getpid())}
    return {**os.environ, **job, "PATH": path, "OMP_NUM_THREADS": "1"}


def run(command, env):
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=env, capture_output=True, text=True, timeout=500
    )
    return done.returncode, done.stdout + done.stderr


def test_slurm_starts_torchrun_on_each_machine(slurm, tmp_path):
    (tmp_path / "torchrun").write_text('#!/bin/sh\necho "torchrun: $*"\n')
    (tmp_path / "torchrun").chmod(0o755)
    status, printed = run([SCALE / "train.slurm", "DATA", "--arch", "a b"], slurm)
    assert status != 0 and "set PROCESSES, or ask for --gpus-per-node" in printed
    status, printed = run(
        [SCALE / "train.slurm", "DATA", "--arch", "a b"], {**slurm, "PROCESSES": "8"}
    )
    port = 20000 + os.getpid() % 20000
    assert status == 0 and sorted(printed.splitlines()) == [
        f"torchrun: --nnodes 2 --node_rank {node} --nproc_per_node 8 --master_addr 127.0.0.1 "
        f"--master_port {port} --no-python fairseq-train DATA --arch a b"
        for node in (0, 1)
    ]


@pytest.mark.long
def test_slurm_trains_on_two_machines(slurm, data, tmp_path):
    save = tmp_path / "save"
    words = [data, "--user-dir", "fairseq_nart", "--arch", "nart_vqvae_tiny", *SMALL, "--cpu"]
    words += ["--max-tokens", "400", "--max-update", "3", "--disable-validation"]
    words += ["--num-workers", "0", "--save-dir", save]
    status, printed = run([SCALE / "train.slurm", *words], {**slurm, "PROCESSES": "1"})
    assert status == 0, printed
    assert "training on 2 devices" in printed and printed.count("Saved checkpoint") == 1
    assert (save / "checkpoint_last.pt").exists()


def corpus(folder):
    """A text with hard lines, one without a line feed at its end, an empty one, and Parquet."""
    import pyarrow
    import pyarrow.parquet as parquet

    folder.mkdir()
    lines = [*random_lines(7, 300), *(HARD[name] for name in sorted(HARD))]
    (folder / "a.txt").write_bytes(b"".join(line + b"\n" for line in lines))
    few = random_lines(8, 60)[:40]
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbf" + b"\n".join([*few, b"der mann"]))
    (folder / "empty.txt").write_bytes(b"")
    values = [plain(random.Random(n)).decode() for n in range(50)] + [None, ""]
    table = pyarrow.table({"number": range(len(values)), "text": values})
    parquet.write_table(table, folder / "c.parquet", row_group_size=10)
    return values


@needs_ray
@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_parts_of_a_text_hold_its_lines(size, tmp_path, monkeypatch):
    """Each line once, wherever the parts are divided."""
    monkeypatch.syspath_prepend(SCALE)
    import translate

    lines = [line for line in random_lines(size, 60) if len(line) < 5000]
    for end in (b"\n", b""):
        file = tmp_path / f"{len(end)}.txt"
        file.write_bytes(b"\n".join(lines) + end)
        with open(file, "rb") as stream:
            expected = list(decode_lines(stream, "text"))
        parts = translate.parts_of(file, size)
        assert [x for part in parts for x in translate.lines_of(part, "text")] == expected


@needs_ray
def test_folder_is_translated_as_by_one_process(data, student, tmp_path):
    """A worker is killed in the middle."""
    import pyarrow.parquet as parquet

    values = corpus(tmp_path / "corpus")
    (tmp_path / "model").mkdir()
    request = export.Request("nart_dcrf_tiny", "float32", None, None)
    export.write(hub.from_pretrained(student, data), request, tmp_path / "model")
    model, out = runtime.load(tmp_path / "model", threads=1), tmp_path / "out"
    command = [SCALE / "translate.py", tmp_path / "corpus", out, "--bytes", "2000"]
    command += ["--model", tmp_path / "model"]
    parts = out / "parts"
    output = killing_a_worker(
        list(map(str, command)), lambda: any(parts.glob("*.txt.*")) or (out / "a.txt").exists()
    )
    assert "no translation" not in output
    for name in ("a.txt", "b.txt", "empty.txt"):
        with open(tmp_path / "corpus" / name, "rb") as stream:
            lines = list(decode_lines(stream, name))
        expected = "".join(f"{line}\n" for line in model.translate(lines, batch_size=1))
        assert (out / name).read_bytes() == expected.encode()
    table = parquet.read_table(out / "c.parquet")
    assert table.column("number").to_pylist() == list(range(len(values)))
    assert table.column("text").to_pylist() == values
    expected = model.translate([value or "" for value in values])
    assert table.column("translation").to_pylist() == expected
    assert sorted(x.name for x in out.iterdir()) == ["a.txt", "b.txt", "c.parquet", "empty.txt"]

"""Distillation on a Ray cluster, of which a worker is killed, equals that of one process."""

import json
import sys

from clusters import killing_a_worker, needs_ray

COUNT = 200
"""Sentences of `data`."""


def built(folder):
    names = ["train.distilled.en", "train.de-en.en.bin", "train.de-en.en.idx"]
    return [(folder / name).read_bytes() for name in names]


@needs_ray
def test_killed_worker_loses_nothing(data, teacher, run, tmp_path):
    alone = run("--max-tokens", "24", data=data)
    out = tmp_path / "ray"
    shard = out / "parts" / "train.0-of-1.tsv"
    words = ["--path", teacher, "--out", out, "--beam", "2", "--backend", "fairseq"]
    command = ["-m", "fairseq_nart.cli", "distill", data, *words, "--max-tokens", "24"]
    missing = []

    def begun():
        lines = shard.read_bytes().count(b"\n") if shard.exists() else 0
        missing.append(COUNT - lines)
        return lines > 0

    output = killing_a_worker([*map(str, command), "--ray", "local"], begun)
    assert missing[-1] > COUNT / 4, "the worker was killed in the middle"
    assert f"{COUNT} sentences" in output
    assert built(out) == built(alone.folder)
    made_with = [
        json.loads((x / "distill.json").read_text())["made_with"] for x in (out, alone.folder)
    ]
    assert made_with[0] == made_with[1]


def test_options_of_ray(run, monkeypatch):
    both = run("--ray", "local", "--num-shards", "2")
    assert both.status == 1 and "--ray divides the work itself" in both.err
    monkeypatch.setitem(sys.modules, "ray", None)
    without = run("--ray", "local")
    assert without.status == 1 and '--ray needs Ray: pip install "ray[data]"' in without.err

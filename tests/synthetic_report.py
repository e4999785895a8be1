"""Reports a synthetic run, and reads its records and tables without the package's code."""

import csv
import dataclasses
import json
import re

from synthetic_run import DATA, TEACHER

from fairseq_nart.cli import main
from fairseq_nart.tools.benchmark.records import FILE, read, write

BASELINE = "Transformer, greedy"
FEW = (TEACHER, BASELINE, "NART, 1 length", "NART-DCRF, 9 lengths")
SPEED = f"{DATA}, text to text"


def report(*runs, out, baseline=BASELINE, teacher=TEACHER, words=()):
    """Runs `fairseq-nart report`; returns its exit status."""
    given = ["report", *map(str, runs), "--out", str(out), *words]
    return main([*given, "--baseline", baseline, "--teacher", teacher])


def raw(run, kind):
    """Records as plain JSON, by system."""
    contents = [json.loads(line) for line in (run / FILE).read_text().splitlines()]
    return {c.get("system", c.get("name")): c for c in contents if c["kind"] == kind}


def texts(run, name):
    """Outputs and references of a system, read without our code."""
    record = raw(run, "translation")[name]
    return [(run / record[key]).read_text().splitlines() for key in ("outputs", "references")]


def csv_table(out):
    with open(out / "table.csv", encoding="utf-8", newline="") as stream:
        return {row["system"]: row for row in csv.DictReader(stream)}


def markdown_table(text, number=0):
    """The cells of one of the tables in a text, by row."""
    block = re.findall(r"(?:^\|.*\n?)+", text, re.M)[number]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
    return [[cell.strip() for cell in row] for row in rows]


def replace(run, name, kind, **changes):
    """Appends a changed copy of the newest record of a kind."""
    record = [r for r in read(run) if r.kind == kind and getattr(r, "system", "") == name][-1]
    write(run, dataclasses.replace(record, **changes))


def drop(run, name, kind):
    """Removes a system's records of one kind."""
    records = read(run)
    (run / FILE).unlink()
    for record in records:
        if (record.kind, getattr(record, "system", "")) != (kind, name):
            write(run, record)

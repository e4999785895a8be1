"""A benchmark's records as a table in the form of the paper's, figures and one HTML page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU

from fairseq_nart.files import exclusive, replacing
from fairseq_nart.tools.reporting import published as published_tables
from fairseq_nart.tools.reporting.collection import collect
from fairseq_nart.tools.reporting.comparison import Comparison, csv_rows, notes
from fairseq_nart.tools.reporting.content import Report, markdown_text
from fairseq_nart.tools.reporting.facts import circumstances, methods
from fairseq_nart.tools.reporting.markup import csv_text, markdown
from fairseq_nart.tools.reporting.page import page
from fairseq_nart.tools.reporting.quality import assess, sweeps
from fairseq_nart.tools.reporting.tables import details, main_table, parts_tables

NO_MATPLOTLIB = "No figures: matplotlib is not installed: pip install fairseq-nart[plots]"


def compare(runs: Sequence[Path], baseline: str, teacher: str, tokenize: str) -> Comparison:
    """The records of run folders with scores. ValueError says what does not go together."""
    collection = collect(runs)
    collection.require(baseline, "--baseline")
    collection.require(teacher, "--teacher")
    translated = {data: texts for data in collection.data if (texts := collection.of_data(data))}
    assessments = {data: assess(texts, baseline, tokenize) for data, texts in translated.items()}
    swept = sweeps(collection.sweeps, tokenize)
    return Comparison(collection, assessments, swept, baseline, teacher, tokenize)


def write_report(of: Comparison, out: Path, published: str) -> Report:
    """Writes table.md, table.csv, plots/ and index.html into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    report = Report(
        title=f"Quality and speed of translation: {', '.join(of.collection.data)}",
        circumstances=circumstances(of),
        main=main_table(of),
        notes=notes(of),
        published=published_tables.sun2019() if published == "sun2019" else None,
        parts=parts_tables(of),
        details=details(of),
        methods=methods(of),
    )
    try:
        from fairseq_nart.tools.reporting import plots
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        report.notes.append(NO_MATPLOTLIB)
    else:
        report.figures = plots.draw(of, out / "plots")
        report.figures_of_parts = plots.draw_parts(of, out / "plots")
    _write(out / "table.md", markdown_text(report))
    _write(out / "table.csv", csv_text(csv_rows(of)))
    _write(out / "index.html", page(report))
    return report


def _write(file: Path, text: str) -> None:
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart report`."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a benchmark's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--baseline",
        metavar="SYSTEM",
        required=True,
        help="the system that speed-up and significance refer to",
    )
    parser.add_argument(
        "--teacher", metavar="SYSTEM", required=True, help="the system that gaps in BLEU refer to"
    )
    parser.add_argument(
        "--tokenize",
        default="13a",
        choices=sorted(BLEU.TOKENIZERS),
        help="sacreBLEU's name for the tokens of BLEU (default 13a)",
    )
    parser.add_argument(
        "--published",
        default="none",
        choices=published_tables.CHOICES,
        help="add a paper's own table in a block apart",
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart report`."""
    of = compare(options.runs, options.baseline, options.teacher, options.tokenize)
    options.out.mkdir(parents=True, exist_ok=True)
    with exclusive(options.out):
        report = write_report(of, options.out, options.published)
    print("\n".join([markdown(report.main), *report.notes]))
    print(f"report: {options.out / 'index.html'}")

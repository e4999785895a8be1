"""Reports a benchmark: a table in the form of the paper's, figures and one HTML page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU

from fairseq_nart.files import exclusive, replacing
from fairseq_nart.tools.reporting.collection import collect
from fairseq_nart.tools.reporting.comparison import Comparison, csv_rows, notes
from fairseq_nart.tools.reporting.content import Report, markdown_text
from fairseq_nart.tools.reporting.facts import circumstances, methods
from fairseq_nart.tools.reporting.markup import csv_text, markdown
from fairseq_nart.tools.reporting.page import page
from fairseq_nart.tools.reporting.published import TABLES
from fairseq_nart.tools.reporting.quality import assess, sweeps
from fairseq_nart.tools.reporting.tables import details, main_table, parts_tables

NO_MATPLOTLIB = "No figures: matplotlib is not installed: pip install matplotlib"


def compare(runs: Sequence[Path], baseline: str, teacher: str, tokenize: str) -> Comparison:
    """The records of run folders, with scores. UserError names records that are not comparable."""
    collection = collect(runs)
    collection.require(baseline, "--baseline")
    collection.require(teacher, "--teacher")
    translated = {data: texts for data in collection.data if (texts := collection.texts_on(data))}
    assessments = {data: assess(texts, baseline, tokenize) for data, texts in translated.items()}
    swept = sweeps(collection.sweeps, tokenize)
    return Comparison(collection, assessments, swept, baseline, teacher, tokenize)


def write_report(results: Comparison, out: Path, published: str) -> Report:
    """Writes table.md, table.csv, plots/ and index.html to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    report = Report(
        title=f"Quality and speed of translation: {', '.join(results.collection.data)}",
        circumstances=circumstances(results),
        main=main_table(results),
        notes=notes(results),
        published=TABLES[published]() if published in TABLES else None,
        parts=parts_tables(results),
        details=details(results),
        methods=methods(results),
    )
    try:
        from fairseq_nart.tools.reporting import plots
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        report.notes.append(NO_MATPLOTLIB)
    else:
        report.figures = plots.draw(results, out / "plots")
        report.figures_of_parts = plots.draw_parts(results, out / "plots")
    _write(out / "table.md", markdown_text(report))
    _write(out / "table.csv", csv_text(csv_rows(results)))
    _write(out / "index.html", page(report))
    return report


def _write(file: Path, text: str) -> None:
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart report`."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folder of a benchmark"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--baseline",
        metavar="SYSTEM",
        required=True,
        help="system that speed-up and significance are relative to",
    )
    parser.add_argument(
        "--teacher", metavar="SYSTEM", required=True, help="system that BLEU gaps are relative to"
    )
    parser.add_argument(
        "--tokenize",
        default="13a",
        choices=sorted(BLEU.TOKENIZERS),
        help="sacreBLEU's tokenizer for BLEU (default: 13a)",
    )
    parser.add_argument(
        "--published",
        default="none",
        choices=["none", *TABLES],
        help="add a paper's own table, separate from the measurements",
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart report`."""
    results = compare(options.runs, options.baseline, options.teacher, options.tokenize)
    options.out.mkdir(parents=True, exist_ok=True)
    with exclusive(options.out):
        report = write_report(results, options.out, options.published)
    print("\n".join([markdown(report.main), *report.notes]))
    print(f"report: {options.out / 'index.html'}")

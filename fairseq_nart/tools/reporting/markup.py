"""Formats numbers and tables as text, Markdown, HTML and CSV."""

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

TIMES = "\N{MULTIPLICATION SIGN}"


def significant(value: float | None) -> str:
    """Three significant digits, as in the paper's times and ratios; empty for None."""
    if value is None:
        return ""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def ratio(value: float | None) -> str:
    """A ratio with the multiplication sign, such as 10.4 times; empty for None."""
    return "" if value is None else significant(value) + TIMES


@dataclass(frozen=True)
class Table:
    """A table of formatted cells; the first column names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def markdown(table: Table) -> str:
    """A Markdown table with aligned columns, also readable as plain text."""
    lines = [[_no_bars(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    first, *others = (_line(row, widths) for row in lines)
    return "\n".join([first, _line(rule, widths), *others])


def _no_bars(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join(padded)} |"


def table_html(table: Table) -> str:
    """An HTML table, in a box that scrolls on narrow screens."""
    # Non-breaking hyphens: a heading breaks only between words.
    header = (html.escape(cell).replace("-", "&#8209;") for cell in table.header)
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{html.escape(table.title)}">'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def csv_text(rows: Sequence[dict[str, object]]) -> str:
    """Comma-separated values; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()

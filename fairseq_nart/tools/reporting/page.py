"""The report as one self-contained HTML page."""

import base64
import html
import struct
from itertools import zip_longest

from fairseq_nart.tools.reporting.content import Plot, Report
from fairseq_nart.tools.reporting.facts import Facts
from fairseq_nart.tools.reporting.markup import Table, table_html

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #24292f;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; font-weight: 600; }
h2 { font-size: 1.2rem; margin: 3rem 0 .75rem; font-weight: 600; }
h3 { font-size: 1rem; margin: 0 0 .5rem; font-weight: 600; }
p, dd, figcaption { max-width: 44rem; overflow-wrap: anywhere; }
dl { margin: 0; display: grid; grid-template-columns: minmax(6rem, max-content) 1fr;
  gap: .25rem 1.25rem; font-size: .9rem; }
dt { color: #57606a; } dd { margin: 0; }
.table { overflow-x: auto; max-width: 100%; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; text-align: right; white-space: nowrap; }
thead th { white-space: normal; }
thead th { font-weight: 600; vertical-align: bottom; border-bottom: 1.5px solid #57606a; }
tbody tr + tr > * { border-top: 1px solid #eaeef2; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0;
  background: inherit; }
tbody th { font-weight: 400; }
tr { background: #fff; }
section.published { margin-top: 3rem; padding: .1rem 1rem 1rem; background: #f6f8fa;
  border-radius: .5rem; }
section.published h2 { margin-top: 1rem; } section.published tr { background: #f6f8fa; }
figure { margin: 0 0 2.5rem; }
figure img { display: block; max-width: 100%; height: auto; }
.table + figure { margin-top: 2rem; }
figcaption, .note { font-size: .9rem; color: #57606a; margin-top: .5rem; }
@media (max-width: 32rem) {
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; }
  tbody th { white-space: normal; } thead th { min-width: 6rem; }
  th:first-child { min-width: 8rem; }
}
"""


def page(report: Report) -> str:
    """The HTML page, with style and images embedded."""
    title = html.escape(report.title)
    blocks = [
        f"<header><h1>{title}</h1>\n{_list(report.circumstances)}</header>\n",
        _section(report.main, "".join(map(_note, report.notes))),
        _section(report.published, kind="published") if report.published else "",
        _figures(report.figures),
        *(
            _section(table, _figure(figure) if figure else "")
            for table, figure in zip_longest(report.parts, report.figures_of_parts)
        ),
        *map(_section, report.details),
        f"<section><h2>How it was measured</h2>\n{_list(report.methods)}</section>\n",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n'
        f"</head>\n<body>\n<main>\n{''.join(blocks)}</main>\n</body>\n</html>\n"
    )


def _list(facts: Facts) -> str:
    items = "".join(
        f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>\n" for term, text in facts
    )
    return f"<dl>\n{items}</dl>\n"


def _section(table: Table, below: str = "", kind: str = "measured") -> str:
    note = _note(table.note) if table.note else ""
    head = f"<h2>{html.escape(table.title)}</h2>\n"
    return f'<section class="{kind}">{head}{table_html(table)}{note}{below}</section>\n'


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>\n'


def _figures(figures: list[Plot]) -> str:
    if not figures:
        return ""
    return f"<section><h2>Figures</h2>\n{''.join(map(_figure, figures))}</section>\n"


def _figure(figure: Plot) -> str:
    content, title = figure.file.read_bytes(), html.escape(figure.title)
    # Shown at half size, to be sharp on high-density screens. These bytes of a PNG header are
    # width and height.
    width, height = (size // 2 for size in struct.unpack(">II", content[16:24]))
    image = base64.b64encode(content).decode()
    return (
        f'<figure><h3>{title}</h3>\n<img alt="{title}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{image}">\n'
        f"<figcaption>{html.escape(figure.caption)}</figcaption></figure>\n"
    )

"""The content of a report, and its Markdown form."""

from dataclasses import dataclass, field
from pathlib import Path

from fairseq_nart.tools.reporting.facts import Facts
from fairseq_nart.tools.reporting.markup import Table, markdown


@dataclass(frozen=True)
class Plot:
    """A figure with its title and caption."""

    file: Path
    title: str
    caption: str


@dataclass
class Report:
    """The contents of a report, in reading order."""

    title: str
    circumstances: Facts
    main: Table
    notes: list[str]
    published: Table | None
    parts: list[Table]
    details: list[Table]
    methods: Facts
    figures: list[Plot] = field(default_factory=list)
    """Shown before the parts."""
    figures_of_parts: list[Plot] = field(default_factory=list)
    """One for each table of parts, or empty."""


def markdown_text(report: Report) -> str:
    """The text and tables of a report as Markdown."""
    blocks = [f"# {report.title}", _items(report.circumstances)]
    blocks += [f"## {report.main.title}", markdown(report.main), *report.notes]
    published = [report.published] if report.published else []
    for table in (*published, *report.parts, *report.details):
        blocks += [f"## {table.title}", markdown(table), *([table.note] if table.note else [])]
    blocks += ["## How it was measured", _items(report.methods)]
    return "\n\n".join(blocks) + "\n"


def _items(facts: Facts) -> str:
    return "\n".join(f"- {term}: {text}" for term, text in facts)

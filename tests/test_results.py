"""The pages of docs/results: links, figures, and the table that is also a CSV file."""

import csv
import re
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PAGES = sorted(RESULTS.glob("*.md"))


def links(page):
    """Relative targets of a page's links and images, without anchors."""
    return re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    for link in links(page):
        assert (page.parent / link).exists(), link


def test_overview_links_every_page():
    pages = {page.name for page in PAGES} - {"README.md"}
    assert pages <= set(links(RESULTS / "README.md"))


def test_figures_are_small_and_used():
    shown = {link for page in PAGES for link in links(page)}
    for figure in (RESULTS / "plots").iterdir():
        assert f"plots/{figure.name}" in shown
        assert figure.stat().st_size <= 60_000


def test_csv_of_all_rows_matches_the_table():
    with (RESULTS / "data/all-rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    text = (RESULTS / "all-rows.md").read_text("utf-8")
    for row in rows:
        system, bleu, gap, *rest = row.values()
        cells = [system, f"{bleu} ({gap})" if gap else bleu, *rest]
        assert f"| {' | '.join(cells)} |" in text, system
    assert len(rows) == 50

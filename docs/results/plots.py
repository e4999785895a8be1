"""Draws the figures of docs/results from the CSV files in docs/results/data.

    python docs/results/plots.py

It needs matplotlib, and overwrites docs/results/plots/*.svg.
"""

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import ScalarFormatter

HERE = Path(__file__).parent
MARKERS = "os^DvPX*"
AUTOREGRESSIVE = ("LSTM", "ConvS2S", "Transformer", "Deep-shallow Transformer")
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.figsize": (8, 4.5),
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: smaller files
    "svg.hashsalt": "fairseq_nart",  # the same data give the same file
}


def rows(name: str) -> list[dict[str, str]]:
    """The rows of data/NAME.csv."""
    with (HERE / "data" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def save(name: str, xlabel: str, ylabel: str) -> None:
    """Labels the current figure and writes it to plots/NAME.svg."""
    plt.xlabel(xlabel)
    plt.ylabel(ylabel)
    plt.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    file = HERE / "plots" / f"{name}.svg"
    plt.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close()
    # matplotlib ends lines of paths in spaces.
    file.write_text("".join(f"{line.rstrip()}\n" for line in file.open(encoding="utf-8")), "utf-8")


def family(system: str) -> str:
    """'NART-CRF, 9 lengths' -> 'NART-CRF': the settings of one family share a marker."""
    name = system.split(",")[0]
    if "CTranslate2" in system:
        return f"{name}, CTranslate2"
    return f"{name}, int8" if system.endswith("int8") else name


def plot_quality_against_latency(data: str, figure: str) -> None:
    families = defaultdict(list)
    for row in rows(data):
        families[family(row["system"])].append((float(row["ms"]), float(row["bleu"])))
    plt.figure(figsize=(8, 5.5))
    for number, (name, points) in enumerate(families.items()):
        color, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
        fill = "none" if name.startswith(AUTOREGRESSIVE) else color
        look = {"color": color, "marker": marker, "markerfacecolor": fill, "linewidth": 0.6}
        plt.plot(*zip(*sorted(points)), **look, label=name)
    plt.xscale("log")
    plt.xticks([tick for tick in (1, 2, 5, 10, 20, 50, 100) if 1.2 * tick > plt.xlim()[0]])
    plt.gca().xaxis.set_major_formatter(ScalarFormatter())
    plt.minorticks_off()
    save(figure, "milliseconds per sentence (log scale)", "BLEU on test2016")


def plot_lines(name: str, x: str, y: str, line: str, xlabel: str, ylabel: str) -> None:
    """Draws a line for each value of the column `line`."""
    lines = defaultdict(list)
    for row in rows(name):
        lines[row[line]].append((float(row[x]), float(row[y])))
    for (label, points), marker in zip(lines.items(), MARKERS):
        plt.plot(*zip(*points), marker=marker, markersize=4, label=label)
    save(name, xlabel, ylabel)


if __name__ == "__main__":
    (HERE / "plots").mkdir(exist_ok=True)
    with plt.rc_context(STYLE):
        plot_quality_against_latency("all-rows", "bleu-against-latency")
        plot_quality_against_latency("one-pass", "one-pass")
        for curves in sorted((HERE / "data").glob("learning-curves-*.csv")):
            plot_lines(curves.stem, "updates", "bleu", "run", "updates", "BLEU on valid")
        axes = ("tokens of the source", "milliseconds per sentence")
        plot_lines("latency-by-length", "tokens", "ms", "system", *axes)

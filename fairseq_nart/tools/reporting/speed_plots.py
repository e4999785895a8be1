"""Figures of how fast systems are."""

from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from fairseq_nart.tools.benchmark.records import OTHER, PARTS, Parts
from fairseq_nart.tools.reporting.comparison import Comparison
from fairseq_nart.tools.reporting.content import Plot
from fairseq_nart.tools.reporting.drawing import (
    BESIDE,
    LABEL_SIZE,
    WIDTH,
    canvas,
    label_ends,
    label_points,
    looks,
    plain_log,
)
from fairseq_nart.tools.reporting.groups import by_size
from fairseq_nart.tools.reporting.markup import ratio, significant
from fairseq_nart.tools.reporting.panels import Curve, curves
from fairseq_nart.tools.reporting.speed import SCOPES, main_scope

_PART_COLOURS = (
    *("#999933", "#0072b2", "#56b4e9", "#f0c94d", "#d55e00", "#cc79a7", "#7d6bb0", "#8c564b"),
    *("#009e73", "#44aa99", "#882255"),
)


def quality_latency(of: Comparison, data: str, file: Path) -> Plot | None:
    """BLEU over mean latency, with the systems that no other beats in both."""
    scope = main_scope(of.collection, data)
    points = {}
    for name in of.collection.systems:
        times, quality = of.times(name, data, scope), of.quality(name, data)
        if times and quality:
            points[name] = (times.mean, quality.bleu)
    if not points:
        return None
    best, styles, joined = front(points), looks(of.collection.systems), ""
    with canvas(file, 4.6, width=WIDTH if len(points) <= _MOST_NAMED else BESIDE) as (axes,):
        plain_log(axes, "x", [x for x, _ in points.values()])
        axes.margins(0.18, 0.12)
        course = _steps([points[name] for name in best])
        axes.plot(*zip(*course, strict=True), color="#c0c0c0")
        for name, (x, y) in points.items():
            look = styles[name]
            face = look.color if name in best else "white"
            axes.plot(x, y, look.marker, color=look.color, mfc=face, ms=8, mew=1.6)
        axes.set_xlabel(f"milliseconds per sentence ({SCOPES[scope]}, batch 1)")
        axes.set_ylabel("BLEU")
        if len(points) <= _MOST_NAMED:
            named = [(x, y, name, styles[name].color) for name, (x, y) in points.items()]
            label_points(axes, named, course)
        else:
            _name_families(axes, of, points)
            joined = " Thin lines join the systems of a family."
    return Plot(
        file,
        "Quality against latency",
        f"{data}. Better is further up and further left. The grey line joins the systems that no "
        f"other beats in both, drawn filled: {'; '.join(best)}.{joined}",
    )


_MOST_NAMED = 8
"""Points that can each have a name beside it."""


def _name_families(axes: Axes, of: Comparison, points: dict[str, tuple[float, float]]) -> None:
    """Joins the points of each family, fastest first, and names it at the right."""
    families: dict[tuple[str, str], list[str]] = {}
    for name in sorted(points, key=points.__getitem__):
        system = of.collection.systems[name]
        families.setdefault((system.family, system.engine), []).append(name)
    styles, ends = looks(of.collection.systems), []
    for (family, engine), members in families.items():
        color = styles[members[0]].color
        axes.plot(*zip(*(points[name] for name in members), strict=True), color=color, lw=0.8)
        several = sum(name == family for name, _ in families) > 1
        slowest = points[members[-1]]
        ends.append((*slowest, f"{family}, {engine}" if several else family, color))
    label_ends(axes, ends)


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """The names of those points (cost, gain) that no other beats in both, cheapest first."""
    best: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not best or points[name][1] > points[best[-1]][1]:
            best.append(name)
    return best


def _steps(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A line that goes right first, then up."""
    turns = [(right, low) for (_, low), (right, _) in pairwise(corners)]
    return [corners[0], *chain.from_iterable(zip(turns, corners[1:], strict=True))]


def latency_length(of: Comparison, data: str, file: Path) -> Plot | None:
    """Mean latency over the number of target tokens."""
    scope = main_scope(of.collection, data)
    lines: dict[str, Curve] = {}
    for name in of.collection.systems:
        if latency := of.collection.latencies.get((name, data, scope)):
            tokens, seconds = np.array(latency.target_tokens), np.array(latency.seconds)
            groups = [group for _, group in by_size(latency.target_tokens)]
            x = [float(tokens[group].mean()) for group in groups]
            lines[name] = (x, [float(1000 * seconds[group].mean()) for group in groups])
    if max((len(x) for x, _ in lines.values()), default=0) < 2:
        return None
    names = ("target tokens", "milliseconds")
    curves(of.collection.systems, lines, file, names, log_y=True)
    growth = {name: y[-1] / y[0] for name, (_, y) in lines.items()}
    least = min(growth, key=growth.__getitem__)
    told = dict.fromkeys(name for name in (of.baseline, least) if name in growth)
    return Plot(
        file,
        "Latency against target length",
        f"{data}, {SCOPES[scope]}, batch 1: means of groups of sentences by length. The "
        "flatter a line, the less a system minds long sentences. From the shortest to the longest "
        f"group the mean grows {' and '.join(f'{ratio(growth[n])} for {n}' for n in told)}.",
    )


def throughput_batch(of: Comparison, data: str, file: Path) -> Plot | None:
    """Sentences per second over the batch."""
    rates = {
        (name, batch): record.sentences_per_second
        for (name, of_data, batch), record in sorted(of.collection.throughputs.items())
        if of_data == data
    }
    if not rates:
        return None
    lines: dict[str, Curve] = {}
    for name in of.collection.systems:
        if batches := [batch for system, batch in rates if system == name]:
            lines[name] = (batches, [rates[name, batch] for batch in batches])
    names = ("sentences in a batch", "sentences per second")
    curves(of.collection.systems, lines, file, names, log_x=True, log_y=True)
    said = []
    for batch in dict.fromkeys(f({batch for _, batch in rates}) for f in (min, max)):
        fastest = max((x for x in rates if x[1] == batch), key=rates.__getitem__)
        base = rates.get((of.baseline, batch))
        gain = f", {ratio(rates[fastest] / base)} {of.baseline}" if base else ""
        said.append(f"{batch}: {fastest[0]} ({significant(rates[fastest])}{gain})")
    return Plot(
        file,
        "Throughput against batch size",
        f"{data}. Where lines meet as the batch grows, the advantage of a single pass is used up. "
        f"Most sentences per second, of what was measured, in batches of {'; of '.join(said)}.",
    )


def parts(of: Comparison, data: str, file: Path) -> Plot | None:
    """Shares of a sentence's time."""
    found = {name: of.collection.parts.get((name, data)) for name in of.collection.systems}
    there = {name: record for name, record in found.items() if record}
    if not there:
        return None
    known = dict.fromkeys(PARTS) | {x: None for record in there.values() for x in record.seconds}
    used = [x for x in known if any(x in record.seconds for record in there.values())]
    with canvas(file, 1.3 + 0.3 * len(there), width=BESIDE) as (axes,):
        left = np.zeros(len(there))
        for number, part in enumerate((*used, OTHER)):
            shares = np.array([_share(record, part) for record in there.values()])
            color = "#dddddd" if part == OTHER else _PART_COLOURS[number % len(_PART_COLOURS)]
            axes.barh(list(there), shares, left=left, label=part, color=color, edgecolor="white")
            left += shares
        for row, record in enumerate(there.values()):
            total = f"{significant(1000 * record.total)} ms"
            axes.text(102, row, total, va="center", fontsize=LABEL_SIZE, color="#444444")
        axes.tick_params(axis="y", labelsize=LABEL_SIZE)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set(xlim=(0, 100), xlabel="% of a sentence's time")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=LABEL_SIZE
        )
    return Plot(
        file,
        "Shares of the time of a sentence",
        f"{data}. Each bar is the whole time of a sentence, written at its right; what no part "
        f'explains is "{OTHER}".',
    )


def _share(record: Parts, part: str) -> float:
    """Percent of the time; a rest that noise made negative is shown as none."""
    spent = {**record.seconds, OTHER: max(0, record.other)}
    return 100 * spent.get(part, 0) / sum(spent.values())

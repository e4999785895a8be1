"""Figures of translation speed."""

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
    line_styles,
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


def quality_latency(results: Comparison, data: str, file: Path) -> Plot | None:
    """BLEU over mean latency, with the Pareto front."""
    scope = main_scope(results.collection, data)
    points = {}
    for name in results.collection.systems:
        times, quality = results.times(name, data, scope), results.quality(name, data)
        if times and quality:
            points[name] = (times.mean, quality.bleu)
    if not points:
        return None
    best, styles, joined = front(points), line_styles(results.collection.systems), ""
    with canvas(file, 4.6, width=WIDTH if len(points) <= _MOST_NAMED else BESIDE) as (axes,):
        plain_log(axes, "x", [x for x, _ in points.values()])
        axes.margins(0.18, 0.12)
        course = _steps([points[name] for name in best])
        axes.plot(*zip(*course, strict=True), color="#c0c0c0")
        for name, (x, y) in points.items():
            style = styles[name]
            face = style.color if name in best else "white"
            axes.plot(x, y, style.marker, color=style.color, mfc=face, ms=8, mew=1.6)
        axes.set_xlabel(f"milliseconds per sentence ({SCOPES[scope]}, batch 1)")
        axes.set_ylabel("BLEU")
        if len(points) <= _MOST_NAMED:
            named = [(x, y, name, styles[name].color) for name, (x, y) in points.items()]
            label_points(axes, named, course)
        else:
            _name_families(axes, results, points)
            joined = " Thin lines join the systems of a family."
    return Plot(
        file,
        "Quality against latency",
        f"{data}. Up and left is better. The grey line joins the systems that no other beats in "
        f"both, drawn filled: {'; '.join(best)}.{joined}",
    )


_MOST_NAMED = 8
"""Most points that get a label each; more are labelled by family."""


def _name_families(axes: Axes, results: Comparison, points: dict[str, tuple[float, float]]) -> None:
    """Joins the points of each family, fastest first, and labels it at the right."""
    families: dict[tuple[str, str], list[str]] = {}
    for name in sorted(points, key=points.__getitem__):
        system = results.collection.systems[name]
        families.setdefault((system.family, system.engine), []).append(name)
    styles, ends = line_styles(results.collection.systems), []
    for (family, engine), members in families.items():
        color = styles[members[0]].color
        axes.plot(*zip(*(points[name] for name in members), strict=True), color=color, lw=0.8)
        several = sum(name == family for name, _ in families) > 1
        slowest = points[members[-1]]
        ends.append((*slowest, f"{family}, {engine}" if several else family, color))
    label_ends(axes, ends)


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """The Pareto front of points (cost, gain): those no other beats in both, cheapest first."""
    best: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not best or points[name][1] > points[best[-1]][1]:
            best.append(name)
    return best


def _steps(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A stepped line: right first, then up."""
    between = [(right, low) for (_, low), (right, _) in pairwise(corners)]
    return [corners[0], *chain.from_iterable(zip(between, corners[1:], strict=True))]


def latency_length(results: Comparison, data: str, file: Path) -> Plot | None:
    """Mean latency over the number of target tokens."""
    scope = main_scope(results.collection, data)
    lines: dict[str, Curve] = {}
    for name in results.collection.systems:
        if latency := results.collection.latencies.get((name, data, scope)):
            tokens, seconds = np.array(latency.target_tokens), np.array(latency.seconds)
            groups = [group for _, group in by_size(latency.target_tokens)]
            x = [float(tokens[group].mean()) for group in groups]
            lines[name] = (x, [float(1000 * seconds[group].mean()) for group in groups])
    if max((len(x) for x, _ in lines.values()), default=0) < 2:
        return None
    names = ("target tokens", "milliseconds")
    curves(results.collection.systems, lines, file, names, log_y=True)
    growth = {name: y[-1] / y[0] for name, (_, y) in lines.items()}
    least = min(growth, key=growth.__getitem__)
    named = dict.fromkeys(name for name in (results.baseline, least) if name in growth)
    return Plot(
        file,
        "Latency against target length",
        f"{data}, {SCOPES[scope]}, batch 1: means of groups of sentences by length. The flatter a "
        "line, the less latency depends on length. From the shortest to the longest group the "
        f"mean grows {' and '.join(f'{ratio(growth[n])} for {n}' for n in named)}.",
    )


def latency_source(results: Comparison, data: str, file: Path) -> Plot | None:
    """Mean latency over the number of source tokens, of sentences made for it."""
    lines: dict[str, Curve] = {}
    records = sorted(results.collection.source_lengths.items())
    for name in results.collection.systems:
        own = [x for (system, test_set, _), x in records if (system, test_set) == (name, data)]
        if own:
            means = [float(1000 * np.mean(record.seconds)) for record in own]
            lines[name] = ([record.tokens for record in own], means)
    if max((len(x) for x, _ in lines.values()), default=0) < 2:
        return None
    names = ("source tokens", "milliseconds")
    curves(results.collection.systems, lines, file, names, log_x=True, log_y=True)
    tokens = [x for line in lines.values() for x in line[0]]
    growth = "; ".join(f"{name} {ratio(y[-1] / y[0])}" for name, (_, y) in lines.items())
    return Plot(
        file,
        "Latency against source length",
        f"{data}, {SCOPES['text']}, batch 1. Sentences of the test set were cut and joined to "
        f"these lengths. From {min(tokens)} to {max(tokens)} tokens the mean grows: {growth}.",
    )


def throughput_batch(results: Comparison, data: str, file: Path) -> Plot | None:
    """Sentences per second over the batch size."""
    rates = {
        (name, batch): record.sentences_per_second
        for (name, test_set, batch), record in sorted(results.collection.throughputs.items())
        if test_set == data
    }
    if not rates:
        return None
    lines: dict[str, Curve] = {}
    for name in results.collection.systems:
        if batches := [batch for system, batch in rates if system == name]:
            lines[name] = (batches, [rates[name, batch] for batch in batches])
    names = ("sentences in a batch", "sentences per second")
    curves(results.collection.systems, lines, file, names, log_x=True, log_y=True)
    summaries = []
    for batch in dict.fromkeys(f({batch for _, batch in rates}) for f in (min, max)):
        fastest = max((x for x in rates if x[1] == batch), key=rates.__getitem__)
        base = rates.get((results.baseline, batch))
        gain = f", {ratio(rates[fastest] / base)} {results.baseline}" if base else ""
        summaries.append(f"{batch}: {fastest[0]} ({significant(rates[fastest])}{gain})")
    return Plot(
        file,
        "Throughput against batch size",
        f"{data}. Where lines meet, a single pass no longer has an advantage. Most sentences per "
        f"second measured in batches of {'; of '.join(summaries)}.",
    )


def parts(results: Comparison, data: str, file: Path) -> Plot | None:
    """The share of each part in a sentence's time."""
    measured, systems = results.collection.parts, results.collection.systems
    records = {name: record for name in systems if (record := measured.get((name, data)))}
    if not records:
        return None
    known = dict.fromkeys(PARTS) | {x: None for record in records.values() for x in record.seconds}
    used = [x for x in known if any(x in record.seconds for record in records.values())]
    with canvas(file, 1.3 + 0.3 * len(records), width=BESIDE) as (axes,):
        left = np.zeros(len(records))
        for number, part in enumerate((*used, OTHER)):
            shares = np.array([_share(record, part) for record in records.values()])
            color = "#dddddd" if part == OTHER else _PART_COLOURS[number % len(_PART_COLOURS)]
            axes.barh(list(records), shares, left=left, label=part, color=color, edgecolor="white")
            left += shares
        for row, record in enumerate(records.values()):
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
        f"{data}. Each bar is the total time of a sentence, given at its right; "
        f'"{OTHER}" is the time outside all parts.',
    )


def _share(record: Parts, part: str) -> float:
    """Percent of the time; if noise makes the rest negative, it counts as 0."""
    spent = {**record.seconds, OTHER: max(0, record.other)}
    return 100 * spent.get(part, 0) / sum(spent.values())

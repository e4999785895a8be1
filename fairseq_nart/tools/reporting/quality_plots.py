"""Figures of how good translations are."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from fairseq_nart.tools.benchmark.plan import RESCORING
from fairseq_nart.tools.benchmark.records import System, Translation
from fairseq_nart.tools.reporting.comparison import PARAMETERS, Comparison
from fairseq_nart.tools.reporting.content import Plot
from fairseq_nart.tools.reporting.drawing import (
    BESIDE,
    canvas,
    label_ends,
    looks,
    one_scale,
    plain_log,
)
from fairseq_nart.tools.reporting.groups import by_size
from fairseq_nart.tools.reporting.panels import Curve, curves
from fairseq_nart.tools.reporting.quality import bleu


def bleu_lengths(of: Comparison, data: str, file: Path) -> Plot | None:
    """BLEU over the number of length candidates, a line for what differs in that number alone."""
    systems = of.collection.systems
    scores = {name: quality.bleu for name in systems if (quality := of.quality(name, data))}
    found = lines_over_lengths([systems[name] for name in scores])
    if not found:
        return None
    lines = {
        name: [(system.lengths or 0, scores[system.name]) for system in line]
        for name, line in found.items()
    }
    styles = looks(systems)
    colors = {name: styles[line[0].name].color for name, line in found.items()}
    ticks = sorted({count for line in lines.values() for count, _ in line})
    teacher = of.quality(of.teacher, data)
    with canvas(file, 3.6, width=BESIDE) as (axes,):
        ends = []
        for name, line in lines.items():
            axes.plot(*zip(*line, strict=True), "o-", color=colors[name])
            ends.append((*line[-1], name, colors[name]))
        if teacher:
            color = styles[of.teacher].color
            axes.axhline(teacher.bleu, color=color, linestyle=(0, (5, 2)), lw=1.4)
            ends.append((ticks[-1], teacher.bleu, of.teacher, color))
        axes.set_xticks(ticks)
        axes.set(xlabel="length candidates", ylabel="BLEU")
        label_ends(axes, ends)
    best = [f"{name}: {max(line, key=lambda p: p[1])[0]}" for name, line in lines.items()]
    return Plot(
        file,
        "BLEU against the number of lengths",
        f"{data}. What decoding more lengths at once and picking among them gains; where a line "
        f"falls, the choice among many goes wrong. Best number of lengths: {'; '.join(best)}.",
    )


def lines_over_lengths(systems: list[System]) -> dict[str, list[System]]:
    """Those that differ in the number of lengths alone, by a name for what they have in common.

    One length needs no ranking: it belongs to every way in which its checkpoint's are ranked.
    """
    pairs = [(system, _way(system)) for system in systems if system.lengths is not None]
    ways = dict.fromkeys(way for system, way in pairs if system.lengths != 1)
    lines = {}
    for way in ways:
        line = [x for x, own in pairs if own == way or (x.lengths == 1 and own[:2] == way[:2])]
        if len(line) > 1:
            alike = sum(way[0] == other[0] for other in ways)
            name = way[0] if alike == 1 else ", ".join(way)
            lines[name] = sorted(line, key=lambda system: system.lengths or 0)
    return lines


def _way(system: System) -> tuple[str, str, str]:
    """Family, precision and options; the checkpoint; how several lengths are ranked."""
    others = {k: v for k, v in system.options.items() if k != "length_candidates"}
    ranking = [str(others.pop(name)) for name in RESCORING if name in others]
    precision = [] if system.precision == "float32" else [system.precision]
    options = [f"{name} {value}" for name, value in others.items()]
    checkpoint = f"{Path(system.checkpoint).stem} {system.checkpoint_sha256[:7]}"
    return (
        ", ".join((system.family, *precision, *options)),
        checkpoint,
        f"ranked by {' '.join(ranking) or 'itself'}",
    )


def bleu_sentence_length(of: Comparison, data: str, file: Path) -> Plot | None:
    """BLEU of groups of sentences by the length of their reference."""
    texts = of.collection.of_data(data)
    if not texts:
        return None
    references = next(iter(texts.values())).references
    groups = by_size([len(line.split()) for line in references])
    if len(groups) < 2:
        return None
    lines: dict[str, Curve] = {}
    for name, text in texts.items():
        scores = [
            bleu([text.outputs[i] for i in group], [references[i] for i in group], of.tokenize)
            for _, group in groups
        ]
        lines[name] = (range(len(groups)), scores)
    ticks = [str(low) if low == high else f"{low}-{high}" for (low, high), _ in groups]
    curves(of.collection.systems, lines, file, ("words in the reference", "BLEU"), ticks=ticks)
    sizes = ", ".join(str(len(group)) for _, group in groups)
    return Plot(
        file,
        "BLEU by sentence length",
        f"{data}, in groups of {sizes} sentences. Where a line falls to the right, long sentences "
        "suffer: those in which words that were chosen apart are the likeliest to disagree.",
    )


def predicted_length(of: Comparison, data: str, file: Path) -> Plot | None:
    """Predicted over true length, one panel for each checkpoint."""
    found = _predictions(of, data)
    if not found:
        return None
    columns = 2 if len(found) in (2, 4) else min(3, len(found))
    rows = -(-len(found) // columns)
    styles = looks(of.collection.systems)
    families = [of.collection.systems[name].family for name in found]
    limit = 1 + max(int(pairs.max()) for pairs in found.values())
    with canvas(file, 0.3 + 5.3 / columns * rows, rows, columns, 5.8) as grid:
        for axes, (name, pairs) in zip(grid, found.items(), strict=False):
            places, counts = np.unique(pairs, axis=1, return_counts=True)
            sizes = 6 + 60 * counts / counts.max()
            axes.plot([0, limit], [0, limit], color="#bbbbbb", lw=1)
            axes.scatter(places[0], places[1], sizes, styles[name].color, alpha=0.5, lw=0)
            family = of.collection.systems[name].family
            # The number of lengths does not matter here, and the panels are narrow.
            axes.set_title(family if families.count(family) == 1 else name, fontsize=9)
            axes.set(aspect="equal", xlim=(0, limit), ylim=(0, limit))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in grid[len(found) :]:
            axes.remove()
        one_scale(grid[: len(found)], ("tokens of the reference", "predicted tokens"), columns)
    said = [f"{name}: {_accuracy(*pairs)}" for name, pairs in found.items()]
    return Plot(
        file,
        "Predicted against true length",
        f"{data}; the larger a dot, the more sentences; on the grey line a prediction is exact. "
        f"{'; '.join(said)}.",
    )


def _predictions(of: Comparison, data: str) -> dict[str, np.ndarray]:
    """System to true and predicted lengths (2, sentences), one system for each checkpoint."""
    found, seen = {}, set()
    for name, text in of.collection.of_data(data).items():
        record, checkpoint = text.record, of.collection.systems[name].checkpoint_sha256
        if isinstance(record, Translation) and record.predicted_lengths and checkpoint not in seen:
            seen.add(checkpoint)
            found[name] = np.array([record.reference_lengths, record.predicted_lengths])
    return found


def _accuracy(true: np.ndarray, predicted: np.ndarray) -> str:
    off = predicted - true
    exact, near = np.mean(off == 0), np.mean(abs(off) <= 4)
    return f"exact {exact:.1%}, within 4 {near:.1%}, mean difference {off.mean():+.2f}"


def sweep(of: Comparison, data: str, parameter: str, file: Path) -> Plot | None:
    """BLEU over the values of one option."""
    scores = of.sweeps[data, parameter]
    if max(map(len, scores.values()), default=0) < 2:
        return None
    styles, said = looks(of.collection.systems), []
    with canvas(file, 3.2, width=BESIDE) as (axes,):
        plain_log(axes, "x", [value for line in scores.values() for value in line], base=2)
        ends = []
        for name, line in scores.items():
            axes.plot(list(line), list(line.values()), **styles[name].line())
            ends.append((*list(line.items())[-1], name, styles[name].color))
            best = max(line.values())
            enough = next(value for value, score in line.items() if score > best - 0.1)
            said.append(f"{enough} for {name}")
        axes.set(xlabel=PARAMETERS[parameter], ylabel="BLEU")
        label_ends(axes, ends)
    return Plot(
        file,
        f"BLEU against {PARAMETERS[parameter]}",
        f"{data}. Where a line is flat, more costs time and gains nothing. The least value within "
        f"0.1 BLEU of the best: {', '.join(said)}.",
    )

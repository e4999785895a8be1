"""Figures of translation quality."""

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
    line_styles,
    one_scale,
    plain_log,
)
from fairseq_nart.tools.reporting.groups import by_size
from fairseq_nart.tools.reporting.panels import Curve, curves
from fairseq_nart.tools.reporting.quality import bleu


def bleu_lengths(results: Comparison, data: str, file: Path) -> Plot | None:
    """BLEU over the number of length candidates, one line for systems that differ only in it."""
    systems = results.collection.systems
    scores = {name: quality.bleu for name in systems if (quality := results.quality(name, data))}
    grouped = lines_over_lengths([systems[name] for name in scores])
    if not grouped:
        return None
    lines = {
        name: [(system.lengths or 0, scores[system.name]) for system in line]
        for name, line in grouped.items()
    }
    styles = line_styles(systems)
    colors = {name: styles[line[0].name].color for name, line in grouped.items()}
    ticks = sorted({count for line in lines.values() for count, _ in line})
    teacher = results.quality(results.teacher, data)
    with canvas(file, 3.6, width=BESIDE) as (axes,):
        ends = []
        for name, line in lines.items():
            axes.plot(*zip(*line, strict=True), "o-", color=colors[name])
            ends.append((*line[-1], name, colors[name]))
        if teacher:
            color = styles[results.teacher].color
            axes.axhline(teacher.bleu, color=color, linestyle=(0, (5, 2)), lw=1.4)
            ends.append((ticks[-1], teacher.bleu, results.teacher, color))
        axes.set_xticks(ticks)
        axes.set(xlabel="length candidates", ylabel="BLEU")
        label_ends(axes, ends)
    best = [f"{name}: {max(line, key=lambda p: p[1])[0]}" for name, line in lines.items()]
    return Plot(
        file,
        "BLEU against the number of lengths",
        f"{data}. The gain from decoding several lengths at once and choosing among them; where a "
        "line falls, more candidates are ranked worse. Best number of lengths: "
        f"{'; '.join(best)}.",
    )


def lines_over_lengths(systems: list[System]) -> dict[str, list[System]]:
    """Groups systems that differ only in the number of lengths; keys name what they share.

    One length needs no ranking, so that system belongs to every ranking of its checkpoint.
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


def bleu_sentence_length(results: Comparison, data: str, file: Path) -> Plot | None:
    """BLEU of groups of sentences by the length of their reference."""
    texts = results.collection.texts_on(data)
    if not texts:
        return None
    references = next(iter(texts.values())).references
    groups = by_size([len(line.split()) for line in references])
    if len(groups) < 2:
        return None
    lines: dict[str, Curve] = {}
    for name, text in texts.items():
        scores = [
            bleu([text.outputs[i] for i in group], [references[i] for i in group], results.tokenize)
            for _, group in groups
        ]
        lines[name] = (range(len(groups)), scores)
    ticks = [str(low) if low == high else f"{low}-{high}" for (low, high), _ in groups]
    curves(results.collection.systems, lines, file, ("words in the reference", "BLEU"), ticks=ticks)
    sizes = ", ".join(str(len(group)) for _, group in groups)
    return Plot(
        file,
        "BLEU by sentence length",
        f"{data}, in groups of {sizes} sentences. Where a line falls to the right, long sentences "
        "suffer, in which independently chosen words are most likely to be inconsistent.",
    )


def predicted_length(results: Comparison, data: str, file: Path) -> Plot | None:
    """Predicted over true length, one panel for each checkpoint."""
    lengths = _predictions(results, data)
    if not lengths:
        return None
    columns = 2 if len(lengths) in (2, 4) else min(3, len(lengths))
    rows = -(-len(lengths) // columns)
    styles = line_styles(results.collection.systems)
    families = [results.collection.systems[name].family for name in lengths]
    limit = 1 + max(int(pairs.max()) for pairs in lengths.values())
    with canvas(file, 0.3 + 5.3 / columns * rows, rows, columns, 5.8) as grid:
        for axes, (name, pairs) in zip(grid, lengths.items(), strict=False):
            places, counts = np.unique(pairs, axis=1, return_counts=True)
            sizes = 6 + 60 * counts / counts.max()
            axes.plot([0, limit], [0, limit], color="#bbbbbb", lw=1)
            axes.scatter(places[0], places[1], sizes, styles[name].color, alpha=0.5, lw=0)
            family = results.collection.systems[name].family
            # The family suffices where it is unique: the panels are narrow.
            axes.set_title(family if families.count(family) == 1 else name, fontsize=9)
            axes.set(aspect="equal", xlim=(0, limit), ylim=(0, limit))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in grid[len(lengths) :]:
            axes.remove()
        one_scale(grid[: len(lengths)], ("tokens of the reference", "predicted tokens"), columns)
    accuracies = [f"{name}: {_accuracy(*pairs)}" for name, pairs in lengths.items()]
    return Plot(
        file,
        "Predicted against true length",
        f"{data}. Larger dots mean more sentences; on the grey line the prediction is exact. "
        f"{'; '.join(accuracies)}.",
    )


def _predictions(results: Comparison, data: str) -> dict[str, np.ndarray]:
    """System to true and predicted lengths (2, sentences), one system for each checkpoint."""
    lengths, seen = {}, set()
    for name, text in results.collection.texts_on(data).items():
        record, checkpoint = text.record, results.collection.systems[name].checkpoint_sha256
        if isinstance(record, Translation) and record.predicted_lengths and checkpoint not in seen:
            seen.add(checkpoint)
            lengths[name] = np.array([record.reference_lengths, record.predicted_lengths])
    return lengths


def _accuracy(true: np.ndarray, predicted: np.ndarray) -> str:
    off = predicted - true
    exact, near = np.mean(off == 0), np.mean(abs(off) <= 4)
    return f"exact {exact:.1%}, within 4 {near:.1%}, mean difference {off.mean():+.2f}"


def sweep(results: Comparison, data: str, parameter: str, file: Path) -> Plot | None:
    """BLEU over the values of one option."""
    scores = results.sweeps[data, parameter]
    if max(map(len, scores.values()), default=0) < 2:
        return None
    styles, sufficient = line_styles(results.collection.systems), []
    with canvas(file, 3.2, width=BESIDE) as (axes,):
        plain_log(axes, "x", [value for line in scores.values() for value in line], base=2)
        ends = []
        for name, line in scores.items():
            axes.plot(list(line), list(line.values()), **styles[name].line())
            ends.append((*list(line.items())[-1], name, styles[name].color))
            best = max(line.values())
            enough = next(value for value, score in line.items() if score > best - 0.1)
            sufficient.append(f"{enough} for {name}")
        axes.set(xlabel=PARAMETERS[parameter], ylabel="BLEU")
        label_ends(axes, ends)
    return Plot(
        file,
        f"BLEU against {PARAMETERS[parameter]}",
        f"{data}. Where a line is flat, more costs time and gains nothing. The smallest value "
        f"within 0.1 BLEU of the best: {', '.join(sufficient)}.",
    )

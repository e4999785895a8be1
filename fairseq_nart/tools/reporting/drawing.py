"""The style of figures: one colour per family, and labels that do not overlap."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox, BboxBase

from fairseq_nart.files import replacing
from fairseq_nart.tools.benchmark.records import System

WIDTH = 6.8
"""Inches: the text width of a printed page."""

BESIDE = 5.0
"""Width in inches of a figure with labels beside it."""

# After Okabe and Ito, and Tol: distinct for colour-blind readers, and dark enough for text on
# white.
COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#aa4499", "#997700", "#3d9bd1")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (5, 2, 1, 2)))

LABEL_SIZE = 9.5
"""Font size, in points, of names beside lines and points."""

STYLE: Any = {
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class LineStyle:
    """How a system is drawn in every figure."""

    color: str
    marker: str
    linestyle: Any

    def line(self) -> dict[str, Any]:
        """Keyword arguments for a line with points."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}


def line_styles(systems: Mapping[str, System]) -> dict[str, LineStyle]:
    """System to style: one colour per family; marker and dashes are distinct within a colour."""
    families = list(dict.fromkeys(system.family for system in systems.values()))
    seen = dict.fromkeys(COLOURS, 0)
    styles = {}
    for name, system in systems.items():
        color = COLOURS[families.index(system.family) % len(COLOURS)]
        number = seen[color]
        seen[color] += 1
        styles[name] = LineStyle(
            color, MARKERS[number % len(MARKERS)], DASHES[number % len(DASHES)]
        )
    return styles


@contextmanager
def canvas(
    file: Path, height: float, rows: int = 1, columns: int = 1, width: float = WIDTH
) -> Iterator[list[Axes]]:
    """Yields axes, row by row, and saves the figure when the block ends. Sizes in inches."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)  # without it, measuring a text allocates the whole picture
        grid = figure.subplots(rows, columns, squeeze=False)
        figure.subplots_adjust(hspace=0.24, wspace=0.2)
        yield list(grid.flat)
        with replacing(file) as temporary:
            kind = file.suffix.removeprefix(".")
            figure.savefig(temporary, format=kind, bbox_inches="tight", pad_inches=0.12)


def plain_log(axes: Axes, which: str, values: Sequence[float], base: float = 10) -> None:
    """A logarithmic axis with round ticks, such as 10, 20, 50; for base 2, the values are ticks."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=base)
    ticks = sorted(set(values)) if base == 2 else _round_numbers(min(values), max(values))
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _round_numbers(low: float, high: float) -> list[float]:
    digits = (1, 2, 5) if high < 100 * low else (1,)
    steps = [digit * 10.0**power for power in range(-3, 7) for digit in digits]
    return [step for step in steps if low / 2 <= step <= high * 2]


def one_scale(grid: Sequence[Axes], names: tuple[str, str], columns: int = 1) -> None:
    """Gives panels the same scales, one label per axis, and numbers on the outer panels only."""
    limits = [(*axes.get_xlim(), *axes.get_ylim()) for axes in grid]
    left, _, low, _ = (min(values) for values in zip(*limits, strict=True))
    _, right, _, high = (max(values) for values in zip(*limits, strict=True))
    for number, axes in enumerate(grid):
        axes.set(xlim=(left, right), ylim=(low, high))
        lowest = number + columns >= len(grid)
        axes.tick_params(labelbottom=lowest, labelleft=number % columns == 0)
    figure = grid[0].figure
    assert isinstance(figure, Figure)
    taken = figure.transFigure.inverted().transform_bbox(
        Bbox.union([box for axes in grid if (box := axes.get_tightbbox())])
    )
    figure.supxlabel(names[0], fontsize=11, y=taken.y0 - 0.06 / figure.get_figheight(), va="top")
    figure.supylabel(names[1], fontsize=11, x=taken.x0 - 0.06 / figure.get_figwidth(), ha="right")


def _fix_limits(axes: Axes) -> None:
    """Keeps the limits, so that what is drawn later does not change them."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Labels lines at the right; `ends` are (x, y, text, colour) of each line's end."""
    _fix_limits(axes)
    height = axes.get_window_extent().height / axes.figure.dpi * 72
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_axes.transform((x, y))[1]) for x, y, _, _ in ends]
    places = spread(wanted, 1.25 * LABEL_SIZE / height)
    for (x, y, text, color), place in zip(ends, places, strict=True):
        line = {"arrowstyle": "-", "color": color, "lw": 0.7, "alpha": 0.6}
        axes.annotate(
            text,
            (x, y),
            (1.06, place),
            textcoords="axes fraction",
            color=color,
            fontsize=LABEL_SIZE,
            va="center",
            annotation_clip=False,
            arrowprops={**line, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)},
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places from 0 to 1, at least `gap` apart, in the order of the wanted ones and close to them.

    If they do not fit, they exceed 0 and 1 equally.
    """

    def centre(group: list[int]) -> float:
        middle, half = sum(wanted[i] for i in group) / len(group), gap * (len(group) - 1) / 2
        return min(max(middle, half), 1 - half) if half <= 0.5 else 0.5

    groups: list[list[int]] = []
    for index in sorted(range(len(wanted)), key=wanted.__getitem__):
        groups.append([index])
        while len(groups) > 1:
            room = gap * (len(groups[-1]) + len(groups[-2])) / 2
            if centre(groups[-1]) - centre(groups[-2]) >= room:
                break
            groups[-2:] = [groups[-2] + groups[-1]]
    places = {
        index: centre(group) + gap * (position - (len(group) - 1) / 2)
        for group in groups
        for position, index in enumerate(group)
    }
    return [places[index] for index in range(len(wanted))]


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float, str, str]],
    course: Sequence[tuple[float, float]] = (),
) -> None:
    """Labels points, each (x, y, text, colour), where the label covers least.

    `course` holds the corners of a line of horizontal and vertical segments to keep visible.
    """
    _fix_limits(axes)
    taken = [_box(axes, [(x, y)], 8) for x, y, _, _ in points]
    taken += [_box(axes, ends, 2) for ends in pairwise(course)]
    for x, y, text, color in points:
        tried = [_name(axes, (x, y), text, color, place) for place in _AROUND]
        costs = [_cost(axes, name.get_window_extent(), taken) for name in tried]
        best = tried.pop(costs.index(min(costs)))
        taken.append(best.get_window_extent().padded(4, 0))
        for name in tried:
            name.remove()


def _box(axes: Axes, places: Sequence[tuple[float, float]], margin: float) -> Bbox:
    """The bounding box of places, with a margin, in pixels."""
    x, y = zip(*(axes.transData.transform(place) for place in places), strict=True)
    return Bbox.from_extents(min(x), min(y), max(x), max(y)).padded(margin)


def _name(
    axes: Axes, point: tuple[float, float], text: str, color: str, place: tuple[float, float]
) -> Annotation:
    right = place[0]
    return axes.annotate(
        text,
        point,
        place,
        textcoords="offset points",
        ha="left" if right > 0 else "right" if right < 0 else "center",
        va="center",
        color=color,
        fontsize=LABEL_SIZE,
        zorder=1.5,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )


def _cost(axes: Axes, box: BboxBase, taken: Sequence[BboxBase]) -> float:
    """Square pixels that a label would cover, or that would be outside the axes."""
    outside = box.width * box.height - _overlap(box, axes.get_window_extent())
    return outside + sum(_overlap(box, other) for other in taken)


_AROUND = ((9, 0), (-9, 0), (0, 12), (0, -12), (7, 10), (7, -10), (-7, 10), (-7, -10))
"""Offsets to try for a label, in points, best first."""


def _overlap(one: BboxBase, other: BboxBase) -> float:
    both = Bbox.intersection(one, other)
    return both.width * both.height if both else 0.0

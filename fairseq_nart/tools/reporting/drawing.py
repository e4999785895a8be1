"""How the figures look: one style, a colour a family, and labels that do not cover each other."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox, BboxBase

from fairseq_nart.tools.benchmark.records import System

WIDTH = 6.8
"""Inches: the text of a printed page."""

BESIDE = 5.0
"""Inches of a figure that has labels beside it."""

# After Okabe and Ito and after Tol: colour-blind readers can tell them apart, and all are dark
# enough for text on white.
COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#aa4499", "#997700", "#3d9bd1")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (5, 2, 1, 2)))

LABEL_SIZE = 9.5
"""Points, of names beside lines and points."""

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
class Look:
    """How a system is drawn in every figure."""

    color: str
    marker: str
    linestyle: Any

    def line(self) -> dict[str, Any]:
        """Arguments of a line with its points."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}


def looks(systems: Mapping[str, System]) -> dict[str, Look]:
    """A colour a family; marker and dashes tell the systems of a colour apart."""
    families = list(dict.fromkeys(system.family for system in systems.values()))
    seen = dict.fromkeys(COLOURS, 0)
    found = {}
    for name, system in systems.items():
        color = COLOURS[families.index(system.family) % len(COLOURS)]
        number = seen[color]
        seen[color] += 1
        found[name] = Look(color, MARKERS[number % len(MARKERS)], DASHES[number % len(DASHES)])
    return found


@contextmanager
def canvas(
    file: Path, height: float, rows: int = 1, columns: int = 1, width: float = WIDTH
) -> Iterator[list[Axes]]:
    """Axes to draw on, row by row; saved when the block ends. Sizes in inches."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        grid = figure.subplots(rows, columns, squeeze=False)
        figure.subplots_adjust(hspace=0.24, wspace=0.2)
        yield list(grid.flat)
        figure.savefig(file, bbox_inches="tight", pad_inches=0.12)


def plain_log(axes: Axes, which: str, values: Sequence[float], base: float = 10) -> None:
    """A logarithmic axis with numbers people read: 10, 20, 50; or, to base 2, the values."""
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
    """Gives panels the same scales, named once; numbers stand at the outer panels alone."""
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
    """From here on what is drawn no longer moves."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names lines at the right, one below the other, each (x, y, text, colour) of a line's end."""
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
    """Places from 0 to 1 at least `gap` apart, in the same order and near to the wanted ones.

    Where there is no room for all, they go beyond 0 and 1 alike.
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
    """Names points, each (x, y, text, colour), where the name covers least.

    `course` are the corners of a line of level and upright pieces, which names should not hide.
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
    """What lies around places, in pixels."""
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
    """Square pixels that a name would cover, or that would stand outside the axes."""
    outside = box.width * box.height - _overlap(box, axes.get_window_extent())
    return outside + sum(_overlap(box, other) for other in taken)


_AROUND = ((9, 0), (-9, 0), (0, 12), (0, -12), (7, 10), (7, -10), (-7, 10), (-7, -10))
"""Where a name may stand, in points from its point; the earlier the better."""


def _overlap(one: BboxBase, other: BboxBase) -> float:
    both = Bbox.intersection(one, other)
    return both.width * both.height if both else 0.0

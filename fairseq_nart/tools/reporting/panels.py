"""Draws one line per system, in as many panels as readability needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from fairseq_nart.tools.benchmark.records import System
from fairseq_nart.tools.reporting.drawing import (
    BESIDE,
    canvas,
    label_ends,
    line_styles,
    one_scale,
    plain_log,
)

Curve = tuple[Sequence[float], Sequence[float]]
"""x and y values of a line's points."""


def curves(
    systems: Mapping[str, System],
    lines: Mapping[str, Curve],
    file: Path,
    names: tuple[str, str],
    *,
    log_x: bool = False,
    log_y: bool = False,
    ticks: Sequence[str] = (),
) -> None:
    """Draws the lines; `names` label x and y. All panels have the same scales.

    A logarithmic x axis has ticks at the points. `ticks` are labels for x = 0, 1, 2, ...
    """
    shown = panels(systems, list(lines))
    styles = line_styles(systems)
    xs, ys = ([value for line in lines.values() for value in line[axis]] for axis in (0, 1))
    height = 0.6 + len(shown) * max(1.9, 0.2 * max(len(members) for _, members in shown))
    with canvas(file, max(3.4, height), len(shown), width=BESIDE) as grid:
        for axes, (title, members) in zip(grid, shown, strict=True):
            axes.set_title(title)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            if log_x:
                plain_log(axes, "x", xs, base=2)
            if log_y:
                plain_log(axes, "y", ys)
                axes.set_ylim(min(ys) / 1.25, max(ys) * 1.25)
            if ticks:
                axes.set_xticks(range(len(ticks)), ticks)
            for name in members:
                axes.plot(*lines[name], **styles[name].line(), clip_on=False)
        one_scale(grid, names)
        for axes, (_, members) in zip(grid, shown, strict=True):
            ends = [(lines[n][0][-1], lines[n][1][-1], n, styles[n].color) for n in members]
            label_ends(axes, ends)


_MOST_SHARED = 4
"""Most systems without length candidates to show in every panel; more get their own panels."""


def panels(systems: Mapping[str, System], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Title and systems of each panel: one per number of lengths; other systems by engine."""
    counts = sorted({n for name in names if (n := systems[name].lengths) is not None})
    without = [name for name in names if systems[name].lengths is None]
    own = []
    if len(without) > _MOST_SHARED:
        engines = dict.fromkeys(systems[name].engine for name in without)
        own = [(x, [name for name in without if systems[name].engine == x]) for x in engines]
        without = []
    elif len(counts) < 2:
        return [("", list(names))]
    return [
        *own,
        *(
            (
                "1 length" if count == 1 else f"{count} lengths",
                [name for name in names if name in without or systems[name].lengths == count],
            )
            for count in counts
        ),
    ]

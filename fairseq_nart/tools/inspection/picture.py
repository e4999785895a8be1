"""Draws a lattice: the candidates, the two paths through them and the transition scores."""

import math
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from fairseq_nart.errors import UserError
from fairseq_nart.runtime.lattice import Lattice, Path
from fairseq_nart.tools.reporting.drawing import COLOURS, LineStyle, canvas

PER_ROW = 8
"""Positions per row; longer sentences continue in the next row."""

LONGEST = 200
"""Most positions of a sentence: 25 rows, two metres of paper."""

MOST_CANDIDATES = 12
"""Per position: a cell of a heat map is then still wider than a millimetre."""

COLUMN, ROW = 0.82, 0.215
"""Inches per position and per candidate. In axes units both are 1; candidate c is at y = -c."""

CELL = 0.78
"""Width of a candidate's box in columns: the paths run through the gaps."""

HEAD, GAP = 1.25, 0.1
"""Rows above the best candidate, and between the last one and the heat maps."""

PANEL = 0.64
"""Inches of a heat map's side."""

Style = dict[str, Any]
"""Keyword arguments for matplotlib."""

COLOUR_MAP = "PRGn"
GREY = "#707070"


@dataclass(frozen=True)
class Stroke:
    """How a path is drawn: distinct from the other without colour, and where both coincide."""

    style: LineStyle
    width: float
    """Points."""
    lift: float
    """Rows by which its line runs above the middle of a box."""
    inset: float
    """Rows by which its frame is smaller than a box."""
    mark: float
    """Size of its mark in a heat map, in cells."""
    sign: str
    """The mark as a character."""


VITERBI = Stroke(LineStyle(COLOURS[1], "s", "-"), 2.2, -0.15, 0.0, 0.85, "\N{WHITE SQUARE}")
ARGMAX = Stroke(
    LineStyle(COLOURS[2], "o", (0, (2.2, 1.2))), 1.2, 0.17, 0.08, 0.5, "\N{WHITE CIRCLE}"
)


def draw(lattice: Lattice, file: File) -> None:
    """Writes the picture in the format of the file's suffix. UserError above LONGEST positions."""
    length, shown = lattice.emissions.shape
    if length > LONGEST:
        raise UserError(f"{length} target tokens: a picture holds at most {LONGEST}")
    rows = math.ceil(length / PER_ROW)
    wide = math.ceil(length / rows)
    low = GAP - shown - PANEL / ROW - 1.9
    limit = float(np.abs(lattice.transitions).max(initial=1))
    size = {"height": rows * (HEAD - low) * ROW, "width": COLUMN * (wide + 0.5)}
    with warnings.catch_warnings():
        # Characters that no font has are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph")
        with canvas(file, rows=rows, **size) as grid:
            grid[0].figure.subplots_adjust(left=0, right=1, bottom=0, top=1, hspace=0)
            for row, axes in enumerate(grid):
                axes.axis("off")
                axes.set(xlim=(-0.95, wide - 0.45), ylim=(low, HEAD))
                start = row * wide
                for position in range(start, min(start + wide, length)):
                    _candidates(axes, lattice, position, position - start)
                    if position:
                        _heat_map(axes, lattice, position, position - start - 0.5, limit)
                for path, stroke in _both(lattice):
                    _line(axes, path, stroke, start)
            for rank in range(shown):
                _text(grid[0], -0.55, -rank, str(rank + 1), 6, GREY, ha="right")
            _heading(grid[0], lattice)
            _key(grid[-1], lattice, limit, low)


def _both(lattice: Lattice) -> tuple[tuple[Path, Stroke], tuple[Path, Stroke]]:
    return (lattice.viterbi, VITERBI), (lattice.argmax, ARGMAX)


def _candidates(axes: Axes, lattice: Lattice, position: int, x: float) -> None:
    """A box for each candidate, filled in proportion to its probability; a frame for each path."""
    shown = lattice.emissions.shape[1]
    if position in lattice.differing:
        corner = (x - 0.46, 0.4 - shown)
        axes.add_patch(Rectangle(corner, 0.92, shown + 0.75, color="#e8e8e8", zorder=0))
        _text(axes, x, 0.78, f"{position + 1}  \N{NOT EQUAL TO}", 8, "black")
    else:
        _text(axes, x, 0.78, str(position + 1), 6.5, GREY)
    for column, token in enumerate(lattice.tokens[position]):
        probability = math.exp(lattice.emissions[position, column])
        corner = (x - CELL / 2, -column - 0.4)
        axes.add_patch(Rectangle(corner, CELL, 0.8, fc="white", ec="#c4c4c4", lw=0.6))
        axes.add_patch(Rectangle(corner, CELL * probability, 0.8, color="#d3e0ea"))
        percent = "" if probability < 0.005 else f"{probability:.0%}"
        right = _text(axes, x + 0.345, -column, percent, 5, GREY, ha="right")
        rank = lattice.ranks[position][column]
        name = token if rank == column else f"{rank + 1}: {token}"
        left = _text(axes, x - 0.35, -column, name, 7, "black", ha="left")
        _fit(left, 72 * COLUMN * 0.68 - _width(right))
    for path, stroke in _both(lattice):
        inset_x = stroke.inset * ROW / COLUMN
        corner = (x - CELL / 2 + inset_x, stroke.inset - path.columns[position] - 0.4)
        size = (CELL - 2 * inset_x, 0.8 - 2 * stroke.inset)
        style: Style = {
            "ec": stroke.style.color,
            "ls": stroke.style.linestyle,
            "lw": 0.7 * stroke.width,
        }
        axes.add_patch(Rectangle(corner, *size, fill=False, zorder=3, **style))


def _line(axes: Axes, path: Path, stroke: Stroke, start: int) -> None:
    """A path's line from box to box; what is cut off at the end of a row continues in the next."""
    edges = np.add.outer(np.arange(len(path.columns)) - start, (-CELL / 2, CELL / 2)).ravel()
    heights = stroke.lift - np.repeat(path.columns, 2)
    style: Style = {"color": stroke.style.color, "ls": stroke.style.linestyle}
    axes.plot(edges[1:-1], heights[1:-1], lw=stroke.width, zorder=0.5, **style)


def _heat_map(axes: Axes, lattice: Lattice, position: int, x: float, limit: float) -> None:
    """The transitions into a position, below the gap before it, with the paths' own marked."""
    scores = lattice.transitions[position - 1]
    top, wide, high = GAP - len(scores), PANEL / COLUMN, PANEL / ROW
    panel = axes.inset_axes((x - wide / 2, top - high, wide, high), transform=axes.transData)
    panel.imshow(scores, COLOUR_MAP, vmin=-limit, vmax=limit, aspect="auto", interpolation="none")
    panel.grid(False)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(visible=True, linewidth=0.5)
    taken = [(path.columns[position - 1 : position + 1], stroke) for path, stroke in _both(lattice)]
    same = taken[0][0] == taken[1][0]
    for line, ((before, after), stroke) in enumerate(taken[:1] if same else taken):
        for edge, color in ((1.8, "white"), (0.9, "black")):
            style: Style = {"ms": 72 * PANEL / len(scores) * stroke.mark, "mfc": "none"}
            panel.plot(after, before, stroke.style.marker, mec=color, mew=edge, **style)
        value = _signed(f"{scores[before, after]:+z.1f}")
        label, color = (value, GREY) if same else (f"{stroke.sign} {value}", stroke.style.color)
        _text(axes, x, top - high - 0.45 - 0.6 * line, label, 6.5, color)


def _heading(axes: Axes, lattice: Lattice) -> None:
    """The sentence, and a legend with the translation of each path."""
    lines = []
    for path, stroke in reversed(_both(lattice)):
        name = f"{path.name}, log p = {_signed(f'{path.log_prob:z.2f}')}:  "
        # Both names allow the same width, so equal texts break at the same word.
        label = textwrap.fill(name + path.text, len(name) + 70)
        style: Style = {"lw": stroke.width, "mfc": "none", "mec": "black", "label": label}
        lines.append(Line2D([], [], **stroke.style.line(), **style))
    legend = axes.legend(
        handles=lines,
        title=textwrap.fill(lattice.source, 76),
        alignment="left",
        title_fontproperties={"weight": "bold", "size": 10},
        fontsize=8.5,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0,
        frameon=False,
        handlelength=3,
    )
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)


def _key(axes: Axes, lattice: Lattice, limit: float, low: float) -> None:
    """The colour bar and the explanations."""
    bar = axes.inset_axes((-0.55, low - 0.3, 1.9, 0.4), transform=axes.transData)
    colours = ScalarMappable(Normalize(-limit, limit), COLOUR_MAP)
    axes.figure.colorbar(colours, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=6.5, length=2, pad=1.5)
    lines = (
        "transition scores (nats); row: previous candidate, column: next one, in the boxes' order",
        f"{VITERBI.sign} {ARGMAX.sign}  the transitions that the paths take, and their scores",
        f"boxes: {lattice.emissions.shape[1]} of {lattice.candidates} candidates; bar, %: emission "
        "probability (from 0.5%); \N{NOT EQUAL TO}: the paths differ",
    )
    for number, line in enumerate(lines):
        _text(axes, 1.55, low - 0.1 - 0.6 * number, line, 6.5, "#444444", ha="left")


def _signed(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")


def _text(
    axes: Axes, x: float, y: float, text: str, size: float, color: str, ha: str = "center"
) -> Text:
    style: Style = {"fontsize": size, "color": color, "ha": ha, "va": "center_baseline"}
    return axes.text(x, y, text, parse_math=False, **style)


def _fit(text: Text, room: float) -> None:
    """Makes a text at most `room` points wide: shrinks it and, at the smallest size, cuts it."""
    smallest = 4.8
    size = float(text.get_fontsize()) * min(1, room / _width(text))
    if size < smallest:
        words = text.get_text()
        text.set_text(words[: int(len(words) * size / smallest) - 1] + "\N{HORIZONTAL ELLIPSIS}")
        size = smallest
    text.set_fontsize(size)


def _width(text: Text) -> float:
    """In points."""
    assert text.figure is not None
    return float(text.get_window_extent().width / text.figure.dpi * 72)

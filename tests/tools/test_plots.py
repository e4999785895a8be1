"""Figures: which are drawn, their captions and their labels."""

import dataclasses
import itertools
import statistics
import struct
from pathlib import Path

import pytest
import synthetic_run
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from synthetic_run import DATA, TEACHER

from fairseq_nart.tools.benchmark.records import FILE, Throughput, read, write
from fairseq_nart.tools.report import compare
from fairseq_nart.tools.reporting import drawing, panels, speed_plots
from fairseq_nart.tools.reporting.drawing import (
    COLOURS,
    label_ends,
    label_points,
    line_styles,
    spread,
)
from fairseq_nart.tools.reporting.groups import GROUPS, by_size
from fairseq_nart.tools.reporting.plots import draw, draw_parts
from fairseq_nart.tools.reporting.quality_plots import lines_over_lengths
from fairseq_nart.tools.reporting.speed_plots import front

ALL = [
    "quality_latency",
    "latency_length",
    "latency_source",
    "throughput_batch",
    "bleu_lengths",
    "bleu_sentence_length",
    "predicted_length",
    "sweep_crf_candidates",
    "sweep_crf_rank",
]


@pytest.fixture(scope="module")
def of(tmp_path_factory):
    run = synthetic_run.make_run(tmp_path_factory.mktemp("runs") / "run", sentences=40)
    return compare([run], TEACHER, TEACHER, "13a")


@pytest.fixture(scope="module")
def plots(of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    return {plot.file.stem: plot for plot in draw(of, folder) + draw_parts(of, folder)}


def only(run, *kinds):
    """Keeps these kinds of records, and the systems."""
    records = read(run)
    (run / FILE).unlink()
    for record in records:
        if record.kind in ("system", *kinds):
            write(run, record)
    return compare([run], TEACHER, TEACHER, "13a")


def size(file):
    """Width and height of a PNG in pixels."""
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", content[16:24])


def test_all_figures_are_drawn(plots):
    assert list(plots) == [*ALL, "parts"]
    for plot in plots.values():
        width, height = size(plot.file)
        assert 1000 < width < 1900 and 500 < height < 1800, plot.file
        assert plot.caption.startswith(DATA) and plot.caption.endswith(".")


@pytest.mark.parametrize(
    ("kinds", "drawn"),
    [
        ((), []),
        (("latency",), ["latency_length"]),
        (("source_length",), ["latency_source"]),
        (("throughput",), ["throughput_batch"]),
        (("parts", "memory"), ["parts"]),
        (("translation",), ["bleu_lengths", "bleu_sentence_length", "predicted_length"]),
    ],
)
def test_figures_without_records_are_skipped(kinds, drawn, tmp_path):
    systems = (TEACHER, "NART, 1 length", "NART, 9 lengths")
    run = synthetic_run.make_run(tmp_path / "run", sentences=12, systems=systems)
    of = only(run, *kinds)
    plots = draw(of, tmp_path / "plots") + draw_parts(of, tmp_path / "plots")
    assert [plot.file.stem for plot in plots] == drawn


def test_one_system_and_one_sentence(tmp_path):
    """Too few points for a line are no error."""
    run = synthetic_run.make_run(tmp_path / "run", sentences=1, systems=[TEACHER])
    of = compare([run], TEACHER, TEACHER, "13a")
    plots = draw(of, tmp_path / "plots") + draw_parts(of, tmp_path / "plots")
    assert [plot.file.stem for plot in plots] == [
        *("quality_latency", "latency_source", "throughput_batch", "parts")
    ]


def test_a_figure_for_each_test_set(tmp_path):
    run = synthetic_run.make_run(tmp_path / "run", data=("A", "B"), sentences=3, systems=[TEACHER])
    plots = draw_parts(compare([run], TEACHER, TEACHER, "13a"), tmp_path)
    assert [plot.file.name for plot in plots] == ["parts_1.png", "parts_2.png"]
    assert [plot.caption[:2] for plot in plots] == ["A.", "B."]


def test_front():
    points = {"slow": (9, 5), "best": (5, 9), "same": (5, 8), "fast": (1, 1), "worse": (2, 0.5)}
    points["equal"] = (6, 9)
    assert front(points) == ["fast", "best"]
    for name, (cost, gain) in points.items():
        beaten = any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points.values())
        assert (name in front(points)) != beaten


def test_latency_line_joins_the_means_of_groups(of, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(speed_plots, "curves", lambda systems, lines, *_, **__: drawn.update(lines))
    plot = speed_plots.latency_length(of, DATA, tmp_path / "x.png")
    record = of.collection.latencies["NART, 1 length", DATA, "text"]
    x, y = drawn["NART, 1 length"]
    low, high = by_size(record.target_tokens)[0][0]
    first = [s for s, n in zip(record.seconds, record.target_tokens) if low <= n <= high]
    assert y[0] == pytest.approx(1000 * statistics.fmean(first)) and low <= x[0] <= high
    _, of_teacher = drawn[TEACHER]
    assert f"{of_teacher[-1] / of_teacher[0]:.2f}× for {TEACHER}" in plot.caption  # noqa: RUF001


def test_throughput_line_is_ordered_by_batch_size(tmp_path, monkeypatch):
    run = synthetic_run.make_run(tmp_path / "run", sentences=3, systems=[TEACHER])
    known = next(record for record in read(run) if isinstance(record, Throughput))
    for batch in (256, 2):
        write(run, dataclasses.replace(known, batch=batch, sentences_per_second=5))
    drawn = {}
    monkeypatch.setattr(speed_plots, "curves", lambda systems, lines, *_, **__: drawn.update(lines))
    of = compare([run], TEACHER, TEACHER, "13a")
    speed_plots.throughput_batch(of, DATA, tmp_path / "x.png")
    x, y = drawn[TEACHER]
    assert list(x) == [1, 2, 4, 16, 64, 256] and y[1] == y[5] == 5


def test_captions_match_the_records(of, plots):
    record = of.collection.translations["NART, 1 length", DATA].record
    pairs = list(zip(record.predicted_lengths, record.reference_lengths))
    exact = statistics.fmean(a == b for a, b in pairs)
    near = statistics.fmean(abs(a - b) <= 4 for a, b in pairs)
    off = statistics.fmean(a - b for a, b in pairs)
    caption = plots["predicted_length"].caption
    assert (
        f"NART, 1 length: exact {exact:.1%}, within 4 {near:.1%}, mean difference {off:+.2f}"
        in caption
    )
    assert "NART, 9 lengths" not in caption, "the same checkpoint twice"
    fastest = min(of.collection.systems, key=lambda name: of.times(name, DATA, "text").mean)
    assert f"drawn filled: {fastest}; " in plots["quality_latency"].caption
    best = max(
        (s for s in of.collection.systems.values() if s.family == "NART-CRF"),
        key=lambda s: of.quality(s.name, DATA).bleu,
    )
    assert f"NART-CRF: {best.lengths}" in plots["bleu_lengths"].caption


def test_line_over_lengths_joins_systems_that_differ_only_in_them():
    def system(lengths, name="", checkpoint="a", **options):
        precision = options.pop("precision", "float32")
        number = "NART, 1 length" if lengths == 1 else "NART, 9 lengths"
        about = {"checkpoint": f"{checkpoint}.pt", "checkpoint_sha256": checkpoint * 64}
        about |= {"lengths": lengths, "precision": precision, "name": f"{lengths} {name}"}
        return synthetic_run.system(
            number, options={"length_candidates": lengths, **options}, **about
        )

    def lines(*systems):
        by_name = lines_over_lengths(list(systems))
        return {name: [system.name for system in line] for name, line in by_name.items()}

    teacher = {"rescore_with": "t.pt", "rescore_alpha": 2}
    plain = [system(1), system(9, **teacher)]
    assert lines(*plain[::-1]) == {"NART": ["1 ", "9 "]}
    assert lines(plain[0], system(9, "int8", precision="int8", **teacher)) == {}
    assert lines(*plain, system(9, "dedup", dedup=True, **teacher)) == {"NART": ["1 ", "9 "]}
    assert lines(*plain, system(9, "own")) == {
        "NART, a aaaaaaa, ranked by t.pt 2": ["1 ", "9 "],
        "NART, a aaaaaaa, ranked by itself": ["1 ", "9 own"],
    }
    seeds = [system(1, "b", "b"), system(9, "b", "b", **teacher)]
    assert lines(*plain, *seeds) == {
        "NART, a aaaaaaa, ranked by t.pt 2": ["1 ", "9 "],
        "NART, b bbbbbbb, ranked by t.pt 2": ["1 b", "9 b"],
    }


@given(st.lists(st.integers(1, 60), min_size=1, max_size=200))
def test_groups_by_size(sizes):
    groups = by_size(sizes)
    assert sorted(i for _, group in groups for i in group) == list(range(len(sizes)))
    assert 1 <= len(groups) <= GROUPS
    for ((_, high), _), ((low, _), _) in itertools.pairwise(groups):
        assert high < low
    for (low, high), group in groups:
        assert {min(sizes[i] for i in group), max(sizes[i] for i in group)} == {low, high}


@given(st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=12), st.sampled_from([0.05, 0.3]))
def test_spread(wanted, gap):
    places = spread(wanted, gap)
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    for low, high in itertools.pairwise(order):
        assert places[high] - places[low] >= gap - 1e-9
    if gap * (len(wanted) - 1) <= 1:
        assert min(places) >= -1e-9 and max(places) <= 1 + 1e-9
    if all(0 <= place <= 1 for place in wanted) and all(
        wanted[high] - wanted[low] >= gap for low, high in itertools.pairwise(order)
    ):
        assert places == pytest.approx(wanted)


def labels_of(axes):
    """{label: its box, without the line that leads to it}."""
    labels = [x for x in axes.get_children() if isinstance(x, Annotation)]
    for label in labels:
        label.get_window_extent()  # places the label
    return {label.get_text(): Text.get_window_extent(label) for label in labels}


def test_labels_of_points_do_not_overlap():
    axes = Figure(figsize=(7, 4.5)).subplots()
    points = [(10, 50, "NART-DCRF, 9 lengths", "k"), (11, 50.5, "NART-CRF, 9 lengths", "k")]
    points += [(20, 50, "Transformer, beam 4", "k"), (40, 60, "NART", "k")]
    axes.plot(*zip(*((x, y) for x, y, _, _ in points)), "o")
    label_points(axes, points)
    boxes, frame = list(labels_of(axes).values()), axes.get_window_extent()
    assert len(boxes) == 4
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(frame.contains(*box.p0) and frame.contains(*box.p1) for box in boxes)


def test_labels_of_lines_do_not_overlap():
    axes = Figure(figsize=(5, 2)).subplots()
    ends = [(1, 0.5 + number / 1000, f"system {number}", "k") for number in range(7)]
    for x, y, _, _ in ends:
        axes.plot([0, x], [0, y])
    label_ends(axes, ends)
    labels = labels_of(axes)
    assert list(labels) == [text for _, _, text, _ in ends]
    assert all(low.y1 <= high.y0 for low, high in itertools.pairwise(labels.values()))
    assert all(box.x0 > axes.get_window_extent().x1 for box in labels.values())


def test_panels_by_number_of_lengths(of):
    systems = of.collection.systems
    by_title = dict(panels.panels(systems, list(systems)))
    assert list(by_title) == ["1 length", "9 lengths", "19 lengths"]
    for title, members in by_title.items():
        assert TEACHER in members
        count = int(title.split()[0])
        assert {systems[name].lengths for name in members} == {None, count}
    assert panels.panels(systems, [TEACHER, "NART, 1 length"]) == [
        ("", [TEACHER, "NART, 1 length"])
    ]


def test_many_systems_without_lengths_have_panels_of_their_own(of):
    systems = dict(of.collection.systems)
    for number in range(3):
        systems[f"more {number}"] = synthetic_run.system(TEACHER, engine="ctranslate2")
    by_title = panels.panels(systems, list(systems))
    titles = [title for title, _ in by_title]
    assert titles[3:] == ["1 length", "9 lengths", "19 lengths"]
    assert set(titles[:3]) == {"fairseq", "ctranslate2", "fairseq_nart"}
    assert sorted(name for _, members in by_title for name in members) == sorted(systems)


def test_line_styles_are_distinct(of):
    systems = of.collection.systems
    styles = line_styles(systems)
    for one, other in itertools.combinations(systems, 2):
        a, b = styles[one], styles[other]
        if systems[one].family == systems[other].family:
            assert a.color == b.color and a.marker != b.marker and a.linestyle != b.linestyle
        else:
            assert a.color != b.color
    assert len({style.color for style in styles.values()}) <= len(COLOURS)


def test_line_styles_of_more_families_than_colours():
    systems = {
        f"{family} {number}": synthetic_run.system(TEACHER, family=family)
        for family in map(str, range(2 * len(COLOURS)))
        for number in range(3)
    }
    assert len({(style.color, style.marker) for style in line_styles(systems).values()}) == len(
        systems
    )


def test_many_points_are_labelled_by_family(of, tmp_path, monkeypatch):
    """Each family once, at its slowest point, with the engine if there are two."""
    labels = []
    monkeypatch.setattr(speed_plots, "label_ends", lambda axes, ends: labels.extend(ends))
    speed_plots.quality_latency(of, DATA, tmp_path / "x.png")
    places = {text: (x, y) for x, y, text, _ in labels}
    assert "Transformer, fairseq" in places and "Transformer, ctranslate2" in places
    scope = speed_plots.main_scope(of.collection, DATA)
    lengths = ("1 length", "9 lengths", "19 lengths")
    times = [of.times(f"NART, {n}", DATA, scope).mean for n in lengths]
    assert places["NART"][0] == max(times)


def test_figure_is_whole_or_absent(tmp_path, monkeypatch):
    file = tmp_path / "figure.png"
    with drawing.canvas(file, 2):
        pass
    before = file.read_bytes()
    assert before.startswith(b"\x89PNG")

    def fail(figure, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(drawing.Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"), drawing.canvas(file, 2):
        pass
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]

"""One sentence's lattice: it equals the model's scores, and the picture shows all of it."""

import contextlib
import math
import sys

import matplotlib.image
import numpy as np
import pytest
import torch
from enumeration import all_paths, all_scores
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from toys import build

from fairseq_nart import hub
from fairseq_nart.cli import main
from fairseq_nart.tools.inspect import NO_MATPLOTLIB, describe
from fairseq_nart.tools.inspection import picture
from fairseq_nart.tools.inspection.lattice import Lattice, Path, decode_lattice
from fairseq_nart.tools.inspection.picture import ARGMAX, LONGEST, VITERBI, draw

SENTENCE = "heute muss der mann lesen ."
BOTH = pytest.mark.parametrize("arch", ["nart_crf_tiny", "nart_dcrf_tiny"])


def translator(task, arch, candidates):
    """A random model whose transitions are strong enough to overrule its emissions."""
    model = build(task, arch, "--crf-candidates", str(candidates))
    with torch.no_grad():
        model.crf.transitions.target.weight.mul_(4)
    return hub.Translator(model, task)


def model_scores(of, length):
    """Emissions (1,T,V), score and tokens of SENTENCE."""
    ((_, source),) = of.batches([SENTENCE], 1)
    with torch.no_grad():
        features, emissions, mask = of.model.start_decoding(
            of.model.encode(source), torch.tensor([[length]])
        )
        score, tokens = of.model.crf.decode(emissions, mask, of.model.head.states(features))
    return emissions, float(score), of.task.target_dictionary.string(tokens[0]).split()


def tokens_of(lattice, path):
    return [row[column] for row, column in zip(lattice.tokens, path.columns, strict=True)]


def words(of, ids):
    return [of.task.target_dictionary[i] for i in ids.tolist()]


@BOTH
def test_lattice_equals_the_models_scores(arch, task):
    """With all candidates: scores sum to the model's, and enumeration finds no better path."""
    of = translator(task, arch, candidates=4)
    lattice = decode_lattice(of, SENTENCE, 4, length=5)
    emissions, score, decoded = model_scores(of, 5)
    assert lattice.candidates == 4 and lattice.source == SENTENCE
    assert lattice.ranks == [[0, 1, 2, 3]] * 5
    for position, row in enumerate(emissions[0].topk(4, dim=1).indices):
        assert lattice.tokens[position] == words(of, row)
    log_probs = emissions.log_softmax(dim=2).topk(4, dim=2).values[0].double()
    np.testing.assert_allclose(lattice.emissions, log_probs, rtol=1e-5)
    assert tokens_of(lattice, lattice.argmax) == words(of, emissions.argmax(dim=2)[0])
    assert lattice.differing, "the CRF must change the output of the toy model"

    paths = all_paths(4, 5)
    scores = all_scores(
        torch.from_numpy(lattice.emissions), torch.from_numpy(lattice.transitions), 5
    )
    assert list(paths[int(scores.argmax())]) == lattice.viterbi.columns
    norm = float(emissions.logsumexp(dim=2).sum())
    assert float(scores.max()) == pytest.approx(score - norm, rel=1e-4)
    for path in (lattice.argmax, lattice.viterbi):
        expected = scores[paths.index(tuple(path.columns))] - scores.logsumexp(dim=0)
        assert path.log_prob == pytest.approx(float(expected), abs=1e-3)
    viterbi_tokens = tokens_of(lattice, lattice.viterbi)
    assert [w for w in viterbi_tokens if w != "</s>"] == decoded


@BOTH
def test_viterbi_path_is_shown_beyond_the_best_candidates(arch, task):
    of = translator(task, arch, candidates=9)
    few, every = (decode_lattice(of, SENTENCE, shown, length=7) for shown in (2, 9))
    assert tokens_of(few, few.viterbi) == tokens_of(every, every.viterbi)
    assert (few.viterbi.text, few.viterbi.log_prob) == (every.viterbi.text, every.viterbi.log_prob)
    last = [ranks[1] for ranks in few.ranks]
    assert last == [max(1, rank) for rank in every.viterbi.columns] and max(last) > 1
    for position in range(1, 7):
        before, after = few.ranks[position - 1], few.ranks[position]
        block = every.transitions[position - 1][np.ix_(before, after)]
        np.testing.assert_array_equal(few.transitions[position - 1], block)
        ranked = every.emissions[position][after]
        np.testing.assert_array_equal(few.emissions[position], ranked)


def test_viterbi_text_is_the_translation(student, data):
    of = hub.from_pretrained(student, data)
    for line in (SENTENCE, "der mann", "morgen liest das kind einen brief ."):
        assert decode_lattice(of, line, 6).viterbi.text == of.translate([line])[0]


def test_lattice_has_the_tuned_length(task):
    of = hub.Translator(build(task, "nart_dcrf_tiny", "--length-predictor", "offset"), task)
    lengths = []
    for of.engine.options.length_offset in (0, 3):
        lengths.append(len(decode_lattice(of, SENTENCE, 4).tokens))
    assert lengths[1] == lengths[0] + 3


def test_one_candidate_equals_argmax(task):
    lattice = decode_lattice(
        translator(task, "nart_dcrf_tiny", candidates=1), SENTENCE, 6, length=6
    )
    assert lattice.argmax.columns == lattice.viterbi.columns == [0] * 6
    assert lattice.argmax.text == lattice.viterbi.text
    assert lattice.viterbi.log_prob == pytest.approx(0, abs=1e-4)
    assert "they agree at every position" in describe(lattice)


@pytest.mark.parametrize(
    ("sentence", "shown", "length", "message"),
    [
        ("  ", 6, None, "empty"),
        (SENTENCE, 1, None, "at least 2 candidates"),
        (SENTENCE, 6, 0, "--length must be 1 to 1024, not 0"),
        (SENTENCE, 6, 1025, "--length must be 1 to 1024, not 1025"),
    ],
)
def test_invalid_input_is_refused(sentence, shown, length, message, task):
    with pytest.raises(ValueError, match=message):
        decode_lattice(translator(task, "nart_crf_tiny", candidates=4), sentence, shown, length)


# ---- the picture


def toy_lattice(length, names=("one", "two", "three"), seed=0):
    """A lattice whose Viterbi path differs at every third position."""
    rng = np.random.default_rng(seed)
    emissions = np.sort(np.log(rng.dirichlet(np.ones(len(names)), length)))[:, ::-1]
    transitions = rng.normal(size=(length - 1, len(names), len(names)))
    other = [position % 3 % 2 for position in range(length)]
    return Lattice(
        source="a $x_1$ sentence",
        candidates=8,
        tokens=[[f"{name}{position}" for name in names] for position in range(length)],
        ranks=[[*range(len(names) - 1), 6]] * length,
        emissions=emissions,
        transitions=transitions,
        argmax=Path("argmax", [0] * length, "first $a_b$ text", -12.345),
        viterbi=Path("Viterbi", other, "second text", -6.789),
    )


@pytest.fixture
def draw_picture(monkeypatch, tmp_path):
    """Draws a lattice; returns the axes, row by row."""
    original, seen, checks = picture.canvas, [], []

    @contextlib.contextmanager
    def canvas(*words, **options):
        with original(*words, **options) as grid:
            seen[:] = grid
            yield grid
            for measure in checks:
                measure(grid[0])

    monkeypatch.setattr(picture, "canvas", canvas)

    def draw_lattice(lattice, *before_saving):
        checks[:] = before_saving
        draw(lattice, tmp_path / "picture.png")
        pixels = matplotlib.image.imread(tmp_path / "picture.png")
        assert pixels.std() > 0.1, "blank"
        return list(seen)

    return draw_lattice


def texts_of(axes):
    return [text.get_text() for text in axes.findobj(Text) if text.get_text()]


def frames(axes, stroke):
    """(position in the row, column) of the frames of a path."""
    patches = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]
    color = matplotlib.colors.to_rgba(stroke.style.color)
    centres = [p.get_center() for p in patches if p.get_edgecolor() == color]
    return [(round(float(x)), round(float(-y))) for x, y in centres]


def test_picture_shows_the_whole_lattice(draw_picture):
    lattice = toy_lattice(7)
    (axes,) = draw_picture(lattice)
    words = texts_of(axes)
    for position, tokens in enumerate(lattice.tokens):
        assert tokens[0] in words and tokens[1] in words
        assert f"7: {tokens[2]}" in words, "its rank is not its column"
        marked = f"{position + 1}  \N{NOT EQUAL TO}" in words
        assert marked == (position in lattice.differing) == (position % 3 == 1)
        for log_prob in lattice.emissions[position]:
            assert f"{math.exp(log_prob):.0%}" in words or math.exp(log_prob) < 0.005
    assert frames(axes, VITERBI) == list(enumerate(lattice.viterbi.columns))
    assert frames(axes, ARGMAX) == list(enumerate(lattice.argmax.columns))
    solid, dashed = axes.lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    for line, stroke, path in ((solid, VITERBI, lattice.viterbi), (dashed, ARGMAX, lattice.argmax)):
        heights = stroke.lift - np.repeat(path.columns, 2)[1:-1]
        np.testing.assert_allclose(line.get_ydata(), heights)
    heading = texts_of(axes.get_legend())
    assert "a $x_1$ sentence" in heading
    assert "argmax, log p = \N{MINUS SIGN}12.35:  first $a_b$ text" in heading
    assert "Viterbi, log p = \N{MINUS SIGN}6.79:  second text" in heading


def test_heat_maps_share_one_scale(draw_picture):
    lattice = toy_lattice(7)
    (axes,) = draw_picture(lattice)
    *panels, bar = axes.child_axes
    assert len(panels) == 6
    limit = np.abs(lattice.transitions).max()
    for panel, scores in zip(panels, lattice.transitions, strict=True):
        (image,) = panel.images
        np.testing.assert_array_equal(image.get_array(), scores)
        assert image.get_clim() == (-limit, limit)
    assert bar.get_xlim() == (-limit, limit)
    for position, panel in enumerate(panels, 1):
        marks = {(line.get_marker(), *line.get_ydata(), *line.get_xdata()) for line in panel.lines}
        expected = {("s", *lattice.viterbi.columns[position - 1 : position + 1])}
        if {position - 1, position} & set(lattice.differing):
            expected.add(("o", 0, 0))
        assert marks == expected


def test_long_sentence_has_several_rows(draw_picture):
    lattice = toy_lattice(20)
    grid = draw_picture(lattice)
    assert len(grid) == 3
    row_of = {}
    for row, axes in enumerate(grid):
        for word in texts_of(axes):
            row_of[word] = row
    assert [row_of[f"one{position}"] for position in range(20)] == [0] * 7 + [1] * 7 + [2] * 6
    assert sum(len(axes.child_axes) for axes in grid) == 19 + 1
    for row, axes in enumerate(grid):
        assert [x for x, _ in frames(axes, VITERBI)] == list(range(7 if row < 2 else 6))
        # the second row's line starts at the first row's last position
        assert min(axes.lines[0].get_xdata()) < (0.5 if row == 0 else -0.5)


def test_memory_does_not_grow_with_the_texts(draw_picture, monkeypatch):
    """Each text was once measured on its own picture, which took gigabytes for 60 positions."""
    pictures, init = [], RendererAgg.__init__

    def spy(renderer, *size):
        pictures.append(size)
        init(renderer, *size)

    monkeypatch.setattr(RendererAgg, "__init__", spy)
    draw_picture(toy_lattice(3))
    few = len(pictures)
    draw_picture(toy_lattice(9))
    assert len(pictures) == 2 * few <= 6


def test_one_position(draw_picture):
    (axes,) = draw_picture(toy_lattice(1))
    assert "one0" in texts_of(axes) and len(axes.child_axes) == 1


def test_too_long_output_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"201 target tokens: a picture holds at most {LONGEST}"):
        draw(toy_lattice(201), tmp_path / "x.png")


def test_tokens_in_any_script(draw_picture, recwarn):
    """Math markup and unknown characters in tokens cause no errors or warnings."""
    names = ["$x_1$", "$\\^_$", "\N{LOWER ONE EIGHTH BLOCK}_", "\U00013000", "字", "a" * 40]
    (axes,) = draw_picture(toy_lattice(3, names))
    words = texts_of(axes)
    assert all(f"{name}0" in words for name in names[:-1])
    assert any(word.startswith("7: aaaa") and word.endswith("…") for word in words)
    assert not recwarn.list
    for text in axes.findobj(Text):
        if "$" in text.get_text():
            assert not text.get_parse_math(), text


def test_tokens_fit_into_their_boxes(draw_picture):
    boxes = []

    def measure(axes):
        for text in axes.texts:
            if "W" in text.get_text():
                boxes.append(text.get_window_extent().transformed(axes.transData.inverted()))
                assert text.get_fontsize() >= 4.8

    draw_picture(toy_lattice(3, ["WWWW", "WWWWWWWWWW", "W" * 30]), measure)
    assert len(boxes) == 9
    for box in boxes:
        middle = round(box.x0)
        assert middle - 0.39 < box.x0 and box.x1 < middle + 0.39 - 0.1, "a percentage follows"


# ---- the command


def inspect(student, data, out, *words):
    return main(
        [
            "inspect",
            SENTENCE,
            "--path",
            str(student),
            "--data",
            str(data),
            "--out",
            str(out),
            *words,
        ]
    )


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_inspect_writes_a_picture_and_prints_the_paths(suffix, student, data, tmp_path, capsys):
    out = tmp_path / f"sentence{suffix}"
    assert inspect(student, data, out, "--candidates", "4", "--length", "9") == 0
    assert out.stat().st_size > 5000
    lattice = decode_lattice(hub.from_pretrained(student, data), SENTENCE, 4, 9)
    printed = capsys.readouterr().out
    assert printed == f"{describe(lattice)}\npicture: {out}\n"
    assert lattice.argmax.text in printed and lattice.viterbi.text in printed


def test_describe_lists_the_differences():
    lines = describe(toy_lattice(5)).splitlines()
    assert lines == [
        "argmax   log p   -12.35  first $a_b$ text",
        "Viterbi  log p    -6.79  second text",
        "they differ at 2 of 5 positions:",
        "    2  one1 → two1",
        "    5  one4 → two4",
    ]


def refusal(capsys, *words):
    """The line of a command that must fail."""
    assert inspect(*words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("system", [["nart_tiny"], ["nart_refinement_tiny", "--output", "crf"]])
def test_model_without_a_lattice_is_refused(system, task, data, tmp_path, capsys, monkeypatch):
    """Refinement has a CRF, but the lattice of its first pass is not that of its translation."""
    nart = hub.Translator(build(task, *system), task)
    monkeypatch.setattr(hub, "from_pretrained", lambda *_: nart)
    line = refusal(capsys, "some/nart.pt", data, tmp_path / "x.png")
    assert "some/nart.pt is a model without a CRF" in line and "nart_crf or nart_dcrf" in line
    assert not (tmp_path / "x.png").exists()


def test_arguments_are_checked_before_the_model_is_loaded(data, tmp_path, capsys):
    for out, words, message in (
        ("x", (), "must end in one of .png, .pdf, .svg"),
        ("x.png", ("--candidates", "1"), "--candidates must be 2 to 12, not 1"),
        ("x.png", ("--candidates", "13"), "--candidates must be 2 to 12, not 13"),
    ):
        assert message in refusal(capsys, tmp_path / "gone.pt", data, tmp_path / out, *words)


def test_missing_matplotlib_is_reported(data, tmp_path, capsys, monkeypatch):
    for name in list(sys.modules):
        ours = name in (
            "fairseq_nart.tools.inspection.picture",
            "fairseq_nart.tools.reporting.drawing",
        )
        if ours or name.split(".")[0] == "matplotlib":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = refusal(capsys, tmp_path / "gone.pt", data, tmp_path / "x.png")
    assert line == f"fairseq-nart inspect: {NO_MATPLOTLIB}"

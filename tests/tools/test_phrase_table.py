"""Phrase extraction against enumeration, the tool, and tables that do not fit."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import binarise, load_task, write_text

from fairseq_nart.cli import main
from fairseq_nart.data.phrase_tables import Sides, read
from fairseq_nart.errors import UserError
from fairseq_nart.layers.phrases import NONE
from fairseq_nart.tools.alignment.phrases import PhraseCounts, pairs
from fairseq_nart.tools.alignment.repair import Links


@st.composite
def aligned(draw):
    """Source tokens, target tokens and links of a sentence."""
    sides = [draw(st.lists(st.integers(4, 6), max_size=6)) for _ in range(2)]
    places = list(itertools.product(*(range(len(side)) for side in sides)))
    links = draw(st.lists(st.sampled_from(places), unique=True)) if places else []
    return *sides, links


def enumerated(source, target, links, longest):
    """All pairs of spans with a link, none of whose words is linked to a word outside."""
    spans = [
        [(a, b) for a in range(len(side)) for b in range(a + 1, min(a + longest, len(side)) + 1)]
        for side in (source, target)
    ]
    for (a, b), (c, d) in itertools.product(*spans):
        inside = [(a <= j < b, c <= i < d) for j, i in links]
        if any(map(all, inside)) and all(x == y for x, y in inside):
            yield tuple(source[a:b]), tuple(target[c:d])


def extracted(sentences, longest):
    triples = [(k, j, i) for k, (_, _, links) in enumerate(sentences) for j, i in links]
    columns = np.array(triples, np.int64).reshape(-1, 3).T
    flat = [np.array([i for s in sentences for i in s[side]], np.int64) for side in (0, 1)]
    sizes = tuple(np.array([len(s[side]) for s in sentences]) for side in (0, 1))
    return pairs(Links(*columns), *flat, sizes, longest)


def words(row):
    return tuple(tuple(i for i in phrase if i != NONE) for phrase in row.tolist())


@given(st.lists(aligned(), min_size=1, max_size=3), st.integers(1, 4))
def test_pairs_equal_enumeration(sentences, longest):
    expected = Counter(pair for s in sentences for pair in enumerated(*s, longest))
    rows = extracted(sentences, longest)
    assert Counter(map(words, rows)) == expected
    counts = PhraseCounts.none(longest).add(rows[: len(rows) // 2]).add(rows[len(rows) // 2 :])
    assert dict(zip(map(words, counts.rows), counts.counts.tolist())) == expected
    best, probabilities = counts.best(1)
    totals = Counter()
    for (source, _), count in expected.items():
        totals[source] += count
    assert {words(row)[0] for row in best.rows} == totals.keys()
    for row, count, probability in zip(best.rows, best.counts, probabilities):
        source, target = words(row)
        same = {t: n for (s, t), n in expected.items() if s == source}
        assert target == min(same, key=lambda t: (-same[t], t))
        assert count == same[target] and probability == count / totals[source]
    often, _ = counts.best(2)
    assert often.counts.tolist() == [n for n in best.counts.tolist() if n >= 2]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Binarised data of two dictionaries, and links that are the diagonal."""
    text = tmp_path_factory.mktemp("text")
    write_text(text, {"train": 60, "valid": 5})
    rare = ("--thresholdsrc", "3", "--thresholdtgt", "3")  # become unknown words
    data = binarise(text, tmp_path_factory.mktemp("data") / "bin", *rare)
    task = load_task(data)
    task.load_dataset("train")
    lines = []
    for pair in task.dataset("train").dataset:
        size = min(len(pair["source"]), len(pair["target"])) - 1
        lines.append(" ".join(f"{i}-{i}" for i in range(size)) + "\n")
    links = data.parent / "train.links"
    links.write_text("".join(lines))
    return data, links, task


@pytest.fixture
def table(small, tmp_path):
    data, links, _ = small
    out = tmp_path / "phrases.tsv"
    assert main(["phrase-table", str(data), "--pharaoh", str(links), "--out", str(out)]) == 0
    return out


def sides_of(task):
    languages = (task.cfg.source_lang, task.cfg.target_lang)
    return Sides(languages, (task.src_dict, task.tgt_dict))


def test_tool_writes_a_table_that_can_be_read(small, table, capsys):
    _, _, task = small
    header, *lines = table.read_text("utf-8").splitlines()
    assert header.split("\t")[:3] == ["phrases", "de", "en"]
    rows = [line.split("\t") for line in lines]
    assert all(int(count) >= 2 and 0 < float(p) <= 1 for _, _, p, count in rows)
    assert max(len(source.split()) for source, *_ in rows) == 4
    assert len({source for source, *_ in rows}) == len(rows)
    tokens = task.src_dict
    unknown = [pair for pair in task.dataset("train").dataset if (pair["source"] == 3).any()]
    assert unknown and "<unk>" not in table.read_text("utf-8")
    loaded = read(table, sides_of(task))
    for source, target, *_ in rows[:: len(rows) // 20]:
        ids = np.array([[*map(tokens.index, source.split(" ")), tokens.eos()]])
        expected = [*map(task.tgt_dict.index, target.split(" ")), task.tgt_dict.eos()]
        assert loaded.look_up(ids, ids > 0, 1).tolist() == [expected]


def test_options_of_the_tool(small, tmp_path, capsys):
    data, links, _ = small
    out = tmp_path / "short.tsv"
    command = ["phrase-table", str(data), "--pharaoh", str(links), "--out", str(out)]
    assert main([*command, "--max-length", "2", "--min-count", "1"]) == 0
    rows = [line.split("\t") for line in out.read_text("utf-8").splitlines()[1:]]
    assert {len(row[0].split()) for row in rows} == {1, 2} and {row[3] for row in rows} >= {"1"}
    capsys.readouterr()
    for words, message in (
        (["--max-length", "0"], "--max-length must be at least 1, not 0"),
        (["--min-count", "0"], "--min-count must be at least 1, not 0"),
        (["--min-count", "99999"], "no phrase pair occurs 99999 times: lower --min-count"),
        (["--splits", "valid", "train"], "--pharaoh names 1 files and --splits 2 splits"),
    ):
        assert main([*command, *words]) == 1
        assert message in capsys.readouterr().err


def test_most_probable_target_is_kept(small, table):
    _, _, task = small
    header = table.read_text("utf-8").splitlines()[0]
    (a, b), (x, y, z) = task.src_dict.symbols[4:6], task.tgt_dict.symbols[4:7]
    rows = [(a, x, 0.2), (a, y, 0.7), (a, z, 0.7), (f"{a} {b}", f"{z} {z}", 1)]
    table.write_text("\n".join([header, *("\t".join(map(str, row)) for row in rows), ""]), "utf-8")
    ids = np.array([[4, 4, 5, 2]])
    assert read(table, sides_of(task)).look_up(ids, ids > 0, 1).tolist() == [[5, 6, 6, 2]]


def refused(table, sides):
    with pytest.raises(UserError) as caught:
        read(table, sides)
    return str(caught.value)


def test_tables_of_other_data_are_refused(small, table):
    _, _, task = small
    sides = sides_of(task)
    german, english = sides.dictionaries
    assert "translates de to en, but the data are en to de" in refused(
        table, Sides(("en", "de"), (english, german))
    )
    for dictionaries, side in (((english, english), "source"), ((german, german), "target")):
        message = refused(table, Sides(("de", "en"), dictionaries))
        assert f"was made with another {side} dictionary, and so with other subwords" in message


@pytest.mark.parametrize(
    "line, message",
    [
        ("{a} {x}", "it needs a source phrase, a target phrase and a probability"),
        ("{a}\t{x}\thigh", "'high' is not a probability"),
        ("{a}\t{x}\t1.5", "'1.5' is not a probability"),
        ("{a}\t{x}\tnan", "'nan' is not a probability"),
        ("{a} nope\t{x}\t1", "'nope' in '{a} nope' is not a subword of the dictionary"),
        ("{a}\t{x}  {x}\t1", "'' in '{x}  {x}' is not a subword of the dictionary"),
        ("{a}\t</s>\t1", "'</s>' in '</s>' is not a subword of the dictionary"),
        ("", "it needs a source phrase"),
    ],
)
def test_malformed_line_is_named(line, message, small, table):
    _, _, task = small
    names = {"a": task.src_dict.symbols[9], "x": task.tgt_dict.symbols[9]}
    lines = [*table.read_text("utf-8").splitlines()[:3], line.format(**names), ""]
    table.write_text("\n".join(lines), "utf-8")
    assert f"{table}, line 4: {message.format(**names)}" in refused(table, sides_of(task))


def test_file_without_header_or_phrases_is_refused(small, table):
    _, _, task = small
    header, line = table.read_text("utf-8").splitlines()[:2]
    for text in ("", f"{line}\n", "{}\n"):
        table.write_text(text, "utf-8")
        assert f"{table}, line 1: a phrase table begins with" in refused(table, sides_of(task))
    table.write_text(f"{header}\n", "utf-8")
    assert f"{table} holds no phrases" in refused(table, sides_of(task))

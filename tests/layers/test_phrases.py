"""Phrase tables: lookup against a search that tries every length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_nart.layers.phrases import NONE, PhraseTable

PAD, EOS = 1, 2
VOCABULARY = 9
PASSED = np.array([0, 1, 2, 3, 14, 15, 16, 3, 18])  # no target token has the symbol of 7

words = st.integers(4, VOCABULARY - 1)
phrases = st.lists(words, min_size=1, max_size=4).map(tuple)
tables = st.dictionaries(phrases, st.lists(st.integers(20, 29), min_size=1, max_size=3))
sentences = st.lists(st.lists(words, max_size=9), min_size=1, max_size=4)


def filled(rows, value=NONE):
    width = max(map(len, rows), default=1)
    full = [[*row, *[value] * (width - len(row))] for row in rows]
    return np.array(full, np.int64).reshape(-1, width)


def built(table):
    return PhraseTable.build(filled(list(table)), filled(list(table.values())), PASSED)


def searched(table, sentence):
    """Greedy longest match, one position after another."""
    result, place = [], 0
    while place < len(sentence):
        for length in range(len(sentence) - place, 0, -1):
            if known := table.get(tuple(sentence[place : place + length])):
                result += known
                break
        else:
            length = 1
            result.append(int(PASSED[sentence[place]]))
        place += length
    return [*result, EOS]


def looked_up(table, batch, left=False):
    ended = [[*sentence, EOS] for sentence in batch]
    width = max(map(len, ended))
    tokens = filled(ended, PAD)
    if left:
        tokens = np.array([[*[PAD] * (width - len(row)), *row] for row in ended])
    rows = table.look_up(tokens, tokens != PAD, PAD)
    assert (np.diff((rows != PAD).astype(int), axis=1) <= 0).all()  # padded on the right
    assert (rows[:, -1] != PAD).any()
    return [row[row != PAD].tolist() for row in rows]


@given(tables, sentences)
def test_lookup_equals_a_search(table, batch):
    expected = [searched(table, sentence) for sentence in batch]
    for left in (False, True):
        assert looked_up(built(table), batch, left) == expected
    for sentence, alone in zip(batch, expected):
        assert looked_up(built(table), [sentence]) == [alone]


def test_longest_phrase_wins_and_other_tokens_are_passed_on():
    table = {(4,): [20], (4, 5): [21, 22], (4, 5, 6, 7): [23], (6,): [24]}
    one = built(table)
    assert looked_up(one, [[4, 5, 6, 7]]) == [[23, EOS]]
    assert looked_up(one, [[4, 5, 6, 8]]) == [[21, 22, 24, 18, EOS]]  # back to the shorter phrase
    assert looked_up(one, [[5, 4, 7], []]) == [[15, 20, 3, EOS], [EOS]]
    assert one.most_tokens == 2


def test_prefix_of_a_phrase_is_no_phrase():
    one = built({(4, 5, 6): [20]})
    assert looked_up(one, [[4, 5]]) == [[14, 15, EOS]]


@pytest.mark.parametrize("order", [1, -1])
def test_order_of_the_phrases_does_not_matter(order):
    table = {(4, 5): [20], (4,): [21, 22], (8, 4): [23], (5, 4, 4): [24]}
    one, other = built(table), built(dict(list(table.items())[::order]))
    for name in ("edges", "starts", "targets"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_empty_table_passes_everything_on():
    assert looked_up(PhraseTable.empty(PASSED), [[4, 7], [8]]) == [[14, 3, EOS], [18, EOS]]

"""The synthetic corpus: several translations of equal length, and recognition of mixtures."""

import itertools

import grammar


def test_sources_have_several_translations_of_equal_length():
    for pair in itertools.islice(grammar.corpus(3), 3000):
        assert len(pair.valid) > 1 and len(set(pair.valid)) == len(pair.valid)
        assert len({len(v.split()) for v in pair.valid}) == 1
        assert pair.shown in pair.valid


def test_corpus_is_reproducible_and_sources_are_distinct():
    one, two = (list(itertools.islice(grammar.corpus(1), 2000)) for _ in range(2))
    assert one == two
    assert len({pair.source for pair in one}) == len(one)
    assert one != list(itertools.islice(grammar.corpus(2), 2000))


def test_mixtures_are_recognized():
    valid = ("today she must read", "she must read today")
    assert not grammar.mixes_modes(valid[0], valid)
    assert grammar.mixes_modes("she she must today", valid)
    assert not grammar.mixes_modes("today she must sing", valid), "wrong, but no mixture"
    assert not grammar.mixes_modes("today she must", valid), "too short to be one"

"""Clocks around parts: what runs inside a part counts once; functions are restored afterwards."""

import types

import pytest

from fairseq_nart.tools.benchmark.clock import PartsClock


@pytest.fixture
def owner(work):
    owner = types.SimpleNamespace()
    owner.inner = lambda: work(2)
    owner.outer = lambda: owner.inner() + work(1) + owner.inner()
    return owner


def test_inner_parts_are_not_counted_twice(owner):
    waited = []
    clock = PartsClock(lambda: waited.append(None))
    with clock.around([(owner, "outer", "decoder"), (owner, "inner", "viterbi")]):
        assert owner.outer() == 5
    assert clock.seconds == {"decoder": 1, "viterbi": 4}
    assert len(waited) == 6


def test_nested_parts_of_one_name_are_counted_once(owner):
    clock = PartsClock(lambda: None)
    with clock.around([(owner, "outer", "decoder"), (owner, "inner", "decoder")]):
        owner.outer()
    assert clock.seconds == {"decoder": 5}


def test_functions_are_restored(owner):
    before = owner.outer
    clock = PartsClock(lambda: None)
    with clock.around([(owner, "outer", "decoder")]):
        assert owner.outer is not before
    assert owner.outer is before


def test_failed_part_is_counted(work):
    owner = types.SimpleNamespace(fail=lambda: work(1) / 0, after=lambda: work(2))
    clock = PartsClock(lambda: None)
    with clock.around([(owner, "fail", "encoder"), (owner, "after", "decoder")]):
        with pytest.raises(ZeroDivisionError):
            owner.fail()
        owner.after()
    assert clock.seconds == {"encoder": 1, "decoder": 2}

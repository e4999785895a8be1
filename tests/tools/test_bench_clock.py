"""Clocks around parts: what runs inside a part counts once; functions are restored afterwards."""

import types

import pytest

from fairseq_nart.tools.benchmark.clock import PartsClock


@pytest.fixture
def room(work):
    room = types.SimpleNamespace()
    room.inner = lambda: work(2)
    room.outer = lambda: room.inner() + work(1) + room.inner()
    return room


def test_inner_parts_are_not_counted_twice(room):
    waited = []
    clock = PartsClock(lambda: waited.append(None))
    with clock.around([(room, "outer", "decoder"), (room, "inner", "viterbi")]):
        assert room.outer() == 5
    assert clock.seconds == {"decoder": 1, "viterbi": 4}
    assert len(waited) == 6


def test_a_part_in_a_part_of_the_same_name(room):
    clock = PartsClock(lambda: None)
    with clock.around([(room, "outer", "decoder"), (room, "inner", "decoder")]):
        room.outer()
    assert clock.seconds == {"decoder": 5}


def test_functions_are_in_order(room):
    before = room.outer
    clock = PartsClock(lambda: None)
    with clock.around([(room, "outer", "decoder")]):
        assert room.outer is not before
    assert room.outer is before


def test_a_part_that_fails_is_counted(work):
    room = types.SimpleNamespace(fail=lambda: work(1) / 0, after=lambda: work(2))
    clock = PartsClock(lambda: None)
    with clock.around([(room, "fail", "encoder"), (room, "after", "decoder")]):
        with pytest.raises(ZeroDivisionError):
            room.fail()
        room.after()
    assert clock.seconds == {"encoder": 1, "decoder": 2}

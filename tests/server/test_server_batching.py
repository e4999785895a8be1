"""Requests that wait together are decoded together, and each gets its own answer."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_model import FakeModel, expected

from fairseq_nart.errors import UserError
from fairseq_nart.server.batching import BATCH, Batcher, BusyError
from fairseq_nart.server.metrics import LINES, Histogram


class HeldModel(FakeModel):
    """Decodes nothing until it is let go."""

    def __init__(self):
        super().__init__()
        self.started, self.go = threading.Event(), threading.Event()

    def translate_n_best(self, lines, most=None):
        self.started.set()
        assert self.go.wait(60)
        return super().translate_n_best(lines, most)


def batching(model, most_waiting=64):
    return Batcher(model, most_waiting, Histogram(LINES))


@pytest.fixture
def held():
    """A model that is busy with one request, and its batcher."""
    model = HeldModel()
    with batching(model) as batcher:
        batcher.translate(["first"])
        assert model.started.wait(60)
        yield model, batcher
        model.go.set()


def texts(answer):
    return [best.text for best, *_ in answer.result(60)]


def test_what_waits_is_decoded_together(held):
    model, batcher = held
    requests = [["a long line", "b"], ["a longer line", "a b"], ["c"]]
    answers = [batcher.translate(lines) for lines in requests]
    model.go.set()
    for lines, answer in zip(requests, answers):
        assert texts(answer) == [expected(line) for line in lines]
    assert model.batches == [["first"], ["a long line", "b", "a longer line", "a b", "c"]]


def test_batches_have_a_most(held):
    model, batcher = held
    answers = [batcher.translate([f"{n:04}"] * 10) for n in range(20)]
    answers.append(batcher.translate(["much"] * 3 * BATCH))
    model.go.set()
    assert [texts(answer)[0] for answer in answers] == [*(f"{n:04}" for n in range(20)), "much"]
    sizes = list(map(len, model.batches))
    assert sum(sizes) == 1 + 200 + 3 * BATCH and all(size < BATCH + 10 for size in sizes[:-1])


@pytest.mark.parametrize(("bad", "kind"), [("POISON", UserError), ("BUG", ZeroDivisionError)])
def test_a_bad_line_spoils_no_other_request(bad, kind, held):
    model, batcher = held
    before, spoilt, after = map(batcher.translate, [["a b"], ["c d", bad], ["e f", ""]])
    model.go.set()
    assert texts(before) == ["b a"]
    assert [[t.text for t in line][:1] for line in after.result(60)] == [["f e"], [""]]
    with pytest.raises(kind):
        spoilt.result(60)
    assert texts(batcher.translate(["g h"])) == ["h g"]


def test_too_many_are_refused_and_room_comes_back():
    model = HeldModel()
    with batching(model, most_waiting=2) as batcher:
        answers = [batcher.translate(["a b"]), batcher.lattice("a b")]
        for ask in (lambda: batcher.translate(["c"]), lambda: batcher.lattice("c")):
            with pytest.raises(BusyError, match=r"too many requests wait \(at most 2\)"):
                ask()
        assert batcher.waiting == 2
        model.go.set()
        assert texts(answers[0]) == ["b a"] and answers[1].result(60).source == "a b"
    assert batcher.waiting == 0


def test_cancelled_requests_cost_nothing(held):
    model, batcher = held
    cancelled, kept = batcher.translate(["c"]), batcher.translate(["k"])
    assert cancelled.cancel()
    model.go.set()
    assert texts(kept) == ["k"]
    assert model.batches == [["first"], ["k"]]


def test_the_end_answers_what_waits():
    model = HeldModel()
    with batching(model) as batcher:
        answers = [batcher.translate([f"{n} line"]) for n in range(BATCH // 2)]
        model.go.set()
    assert [texts(answer) for answer in answers] == [[f"line {n}"] for n in range(BATCH // 2)]
    with pytest.raises(BusyError, match="stopping"):
        batcher.translate(["late"])


def test_many_threads():
    """Each gets its own answers, and no two of them enter the model at once."""
    model = FakeModel(seconds=0.001)
    sizes = Histogram(LINES)

    def ask(thread):
        for n in range(30):
            lines = [f"{thread} {n} {k}" for k in range(n % 4)]
            assert texts(batcher.translate(lines)) == [expected(line) for line in lines]
            assert batcher.lattice(f"{thread} {n}").result(60).source == f"{thread} {n}"

    with Batcher(model, 100, sizes) as batcher, ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))
    assert max(map(len, model.batches)) > 1
    assert sizes.lines("x")[-1] == f"x_count {len(model.batches)}"

"""What is timed and counted, on engines with a fake clock."""

import sys
import types
from collections import Counter

import pytest
import torch

from fairseq_nart.compat import allocator
from fairseq_nart.crf import chain
from fairseq_nart.layers import linear
from fairseq_nart.models._by_length import ByLengthModel
from fairseq_nart.subwords import Subwords
from fairseq_nart.teacher.rescoring import TeacherRescorer
from fairseq_nart.tools._ctranslate2 import submit
from fairseq_nart.tools.benchmark import stages, worker
from fairseq_nart.tools.benchmark.ctranslate2_engine import CTranslate2Engine
from fairseq_nart.tools.benchmark.fairseq_engine import FairseqEngine
from fairseq_nart.tools.benchmark.measuring import Measuring, Timed
from fairseq_nart.tools.benchmark.plan import SystemPlan
from fairseq_nart.tools.benchmark.session import Text


class Slow:
    """Encoding takes 1, a sentence 10, decoding 100, and each of the first `cold` translations
    1,000 more."""

    def __init__(self, work, cold=1):
        self.work, self.cold, self.wait = work, cold, lambda: None

    def encode(self, tokens):
        self.work(1)
        return tokens

    def decode(self, target):
        self.work(100)
        return target

    def translate(self, batches):
        batches = list(batches)
        self.work(1000 * (self.cold > 0) + 10 * sum(map(len, batches)))
        self.cold -= 1
        return batches

    def parts(self):
        return [(self, "translate", "decoder")]


def test_timing_includes_the_right_steps(work):
    def measuring():
        return Measuring(Slow(work), Subwords(None))

    assert measuring().time(["a", "b b"]) == [Timed(111, 10, 2), Timed(111, 10, 3)]
    assert measuring().throughput(["a", "b b", "c"], 2) == (30, 7)
    assert measuring().parts(["a", "b"]) == ({"decoder": 10}, 10)


def test_first_lines_warm_up_a_block(work):
    timed = Measuring(Slow(work, cold=5), Subwords(None)).time(list("abcdefg"))
    assert [one.tokens for one in timed] == [10] * 7


def test_memory_is_returned_except_after_trials(work, monkeypatch):
    """Otherwise waiting processes hold memory that others need."""
    requests = iter([("warm_up", ("a",)), ("time", ("a",)), ("rest", ()), ("parts", ("a",))])
    seen = []
    engine = Slow(work)
    engine.name, engine.libraries, engine.lengths, engine.can_stream = "slow", (), None, False

    class Talk:
        def recv(self):
            for request in requests:
                return request
            raise EOFError

        def send(self, answer):
            seen.append("answered")

    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker.logging, "disable", lambda *_: None)
    monkeypatch.setattr(worker, "_engine", lambda *_: engine)
    monkeypatch.setattr(allocator, "return_free_memory", lambda: seen.append("returned"))
    worker._serve(Talk(), None, None, lambda: Subwords(None), "cpu")
    both = ["returned", "answered"]  # a worker first describes itself
    assert seen == [*both, "answered", "answered", *both, *both]


def test_sentence_is_warmed_up_once(work):
    measuring = Measuring(Slow(work), Subwords(None))
    warmed_up = []
    measuring._time = warmed_up.append
    measuring.warm_up(["a", "b"])
    measuring.warm_up(["b", "c", "c"])
    assert warmed_up == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "owner", "function", "part"),
    [
        ({"length_candidates": 3}, TeacherRescorer, "distributions", "rescoring"),
        ({}, chain, "_backtrace", "viterbi"),
        ({"crf_paths": 2}, chain, "_backtrace", "viterbi"),
    ],
)
def test_part_includes_its_functions(
    options, owner, function, part, data, student, teacher, monkeypatch, work
):
    options = {**options, "rescore_with": str(teacher)} if options else options
    engine = FairseqEngine(SystemPlan("x", "x", student, options=options), data, "cpu")
    plain = getattr(owner, function)

    def slow(*arguments):
        work(7)
        return plain(*arguments)

    monkeypatch.setattr(owner, function, slow)
    assert Measuring(engine, Subwords(None)).parts(["der mann"])[0][part] == 7


@pytest.mark.parametrize("packed_from", [0, 2**60])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_operations_match_the_sizes(precision, packed_from, data, student, monkeypatch):
    """With all kernels."""
    monkeypatch.setattr(linear, "WORTH_PACKING", packed_from)
    monkeypatch.setattr(ByLengthModel, "predict_lengths", lambda _, states: states.lengths - 2)
    engine = FairseqEngine(SystemPlan("x", "x", student, precision=precision), data, "cpu")
    measuring, line = Measuring(engine, Subwords(None)), "der mann " * 4
    measuring.time([line])  # fills the caches
    d, ffn, layers, source, target, words, rank, k = 16, 32, 2, 9, 7, 224, 32, 64
    products = layers * (source * 4 * d * d + 2 * source * source * d + source * 2 * d * ffn)
    own = target * 4 * d * d + 2 * target * target * d
    # In float32, queries and keys are cached.
    positional = own if precision == "bfloat16" else own - target * 2 * d * d
    other = target * 2 * d * d + source * 2 * d * d + 2 * target * source * d
    products += layers * (own + positional + other + target * 2 * d * ffn) + target * d * words
    dynamic = 2 * d * d + d * rank * rank
    products += (target - 1) * (dynamic + k * rank * rank + k * rank * k)
    assert measuring.operations([line, line]) == 2 * products


def test_operations_of_an_lstm(data, student):
    engine = FairseqEngine(SystemPlan("x", "x", student), data, "cpu")
    layer, rows = torch.nn.LSTM(8, 4, bidirectional=True), torch.zeros(5, 3, 8)
    with torch.inference_mode():
        operations = engine.operations(lambda: layer(rows))
    assert operations == 2 * 5 * 3 * 2 * (8 + 4) * 4 * 4


def test_latency_is_the_median_by_sentence(tmp_path, monkeypatch):
    """With more sentences than one block holds. Warm-up comes first and rest last."""
    monkeypatch.setattr(stages, "BLOCK", 10)
    lines, seen, calls = [str(n) for n in range(12)], Counter(), []

    def call(what, block=()):
        calls.append(what)
        if what == "warm_up":
            assert block == lines
        if what != "time":
            return []
        seen.update(block)
        return [Timed(9, int(x) + (0, 1, 20)[seen[x] - 1], int(x)) for x in block]

    worker = types.SimpleNamespace(plan=types.SimpleNamespace(name="x"), call=call)
    rounds = stages._Rounds(tmp_path / "toy.jsonl", {})
    stages._run_trials(rounds, Text("toy", "", lines, lines, list(range(12))), [worker], 3)
    medians = stages._medians(rounds.of("x"), 12)
    assert [(x.tokens, x.target_tokens) for x in medians] == [(n + 1, n) for n in range(12)]
    assert calls == ["warm_up"] + ["time"] * 6 + ["rest"]


def test_ctranslate2_gets_the_options_of_the_plan(monkeypatch, tmp_path):
    seen = {}
    fake = types.SimpleNamespace(Translator=lambda folder, **words: seen.update(words))
    monkeypatch.setitem(sys.modules, "ctranslate2", fake)
    plan = SystemPlan("x", "x", tmp_path, "ctranslate2", "int8", 2, {"beam": 1, "lenpen": 0.5})
    search = CTranslate2Engine(plan, tmp_path, "cpu").search
    assert (seen["compute_type"], seen["intra_threads"], search.max_len_b) == ("int8", 2, 200)
    translator = types.SimpleNamespace(translate_batch=lambda _, **words: seen.update(words))
    submit(translator, [["a"]], search, 7)
    options = [seen[x] for x in ("beam_size", "length_penalty", "max_decoding_length")]
    assert options == [1, 0.5, 8]

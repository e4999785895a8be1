"""Passes of bounded memory: they do not change results, and inputs that do not fit are refused."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toys import batch_of, build, build_teacher

from fairseq_nart.generation import passes, ranking
from fairseq_nart.generation.engine import Engine
from fairseq_nart.layers import fertility
from fairseq_nart.teacher.rescoring import TeacherRescorer

EOS, PAD = 2, 1

SYSTEMS = [
    ("nart_tiny", {"length_candidates": 9}),
    ("nart_tiny", {"length_candidates": 9, "dedup": True}),
    ("nart_crf_tiny", {"length_candidates": 9}),
    ("nart_crf_tiny", {"length_candidates": 5, "crf_paths": 4}),
    ("nart_dcrf_tiny", {"length_candidates": 5, "crf_paths": 4}),
    ("nart_ctc_tiny", {}),
    ("nart_ctc_tiny", {"ctc_beam": 5}),
    ("nart_dag_tiny", {"dag_search": "lookahead"}),
    ("nart_dag_tiny", {"dag_paths": 5}),
    ("nart_fertility_tiny", {"fertility_samples": 12}),
    ("nart_vqvae_tiny", {"latent_samples": 12}),
    ("nart_refinement_tiny", {"length_candidates": 5, "refinement_iterations": 3}),
    *(
        ("nart_refinement_tiny", {"length_candidates": 5, "refinement_stop": rule})
        for rule in ("equality", "jaccard", "unchanged")
    ),
    ("nart_cmlm_tiny", {"length_candidates": 5, "refinement_iterations": 4}),
]


@pytest.fixture(scope="module")
def source(task, device):
    return batch_of(task, device, rows=7)["net_input"]["src_tokens"]


def limit(monkeypatch, elements):
    monkeypatch.setattr(passes, "ELEMENTS_PER_PASS", {"cpu": elements, "accelerator": elements})


def build_engine(task, device, arch, options, kind=None, *words):
    model = build(task, arch, *words, seed=6).to(device)
    rescorer = None
    if kind:
        rescorer = TeacherRescorer(build_teacher(task, kind).to(device), EOS, "gnmt", 0.6)
    return Engine(model, eos=EOS, pad=PAD, options=model.Decoding(**options), rescorer=rescorer)


def assert_same(one, other):
    assert [len(hypotheses) for hypotheses in one] == [len(hypotheses) for hypotheses in other]
    for mine, theirs in zip(one, other, strict=True):
        scores = [h.score for h in theirs]
        assert [h.score for h in mine] == pytest.approx(scores, rel=1e-6, abs=1e-5)
        assert [h.tokens.tolist() for h in mine] == [h.tokens.tolist() for h in theirs]
        assert [h.iterations for h in mine] == [h.iterations for h in theirs]
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a.token_scores, b.token_scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [None, "transformer"])
@pytest.mark.parametrize("arch, options", SYSTEMS)
def test_passes_do_not_change_the_result(arch, options, kind, task, source, device, monkeypatch):
    """With one row, some candidates of a sentence, and some sentences per pass."""
    decode = build_engine(task, device, arch, options, kind)
    counts, inner = [], decode.model.decode

    def counting(request):
        counts[-1] += 1
        return inner(request)

    decode.model.decode = counting
    row = decode.model.row_elements(source.size(1), source.size(1), decode.options)
    results = []
    for elements in (10**9, 1, 4 * row, 15 * row):
        limit(monkeypatch, elements)
        counts.append(0)
        results.append(decode(source))
    assert counts[0] == 1 < counts[3] <= counts[2] <= counts[1]
    for split in results[1:]:
        assert_same(split, results[0])
    for best, every in zip(decode(source, most=2), results[0], strict=True):
        assert_same([best], [every[:2]])


@pytest.mark.parametrize("kind", ["lstm", "conv"])
def test_passes_do_not_change_teacher_scores(kind, task, source, device, monkeypatch):
    decode = build_engine(task, device, "nart_dcrf_tiny", {"length_candidates": 5}, kind)
    whole = decode(source)
    limit(monkeypatch, 1)
    assert_same(decode(source), whole)


def test_equal_candidates_of_several_passes_are_merged(task, source, device, monkeypatch):
    """The best one is kept; of equally good ones the first, in whatever pass it was decoded."""
    decode = build_engine(task, device, "nart_tiny", {"length_candidates": 7})
    inner, requested = decode.model.decode, []

    def prefer_even_lengths(request):
        decoded, proposal = inner(request), request.proposal
        requested.append(proposal.lengths.tolist())
        tokens = torch.full_like(decoded.tokens, 5)
        tokens[:, 1:] = EOS
        lengths = proposal.lengths.flatten()
        scores = -(lengths % 2)[:, None].float().expand_as(tokens)
        return replace(decoded, tokens=tokens, log_probs=scores, iterations=lengths)

    decode.model.decode = prefer_even_lengths
    whole = decode(source)
    first_even = [min(n for n in row if n % 2 == 0) for row in requested[0]]
    limit(monkeypatch, 1)
    for results in (whole, decode(source)):
        assert [[h.iterations for h in hypotheses] for hypotheses in results] == [
            [n] for n in first_even
        ]


class LargestTensor(TorchDispatchMode):
    """The size of the largest tensor that an operation creates, in elements of 4 bytes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(each, torch.Tensor) and not func.is_view and each._base is None:
                elements = min(each.numel(), each.untyped_storage().nbytes() // each.element_size())
                self.elements = max(self.elements, elements * each.element_size() // 4)
        return result


WIDE = [
    ("nart_tiny", {"length_candidates": 1001}),
    ("nart_crf_tiny", {"length_candidates": 1001}),
    ("nart_dcrf_tiny", {"length_candidates": 101, "crf_paths": 9}),
    ("nart_ctc_tiny", {"ctc_beam": 20}),
    ("nart_dag_tiny", {"dag_paths": 20}),
    ("nart_fertility_tiny", {"fertility_samples": 300}),
    ("nart_latent_tiny", {"latent_samples": 300}),
    ("nart_refinement_tiny", {"length_candidates": 101, "refinement_stop": "jaccard"}),
    ("nart_cmlm_tiny", {"length_candidates": 101, "refinement_iterations": 2}),
]


@pytest.mark.parametrize("kind", [None, "transformer"])
@pytest.mark.parametrize("arch, options", WIDE)
def test_no_tensor_exceeds_the_limit_of_a_pass(
    arch, options, kind, task, source, device, monkeypatch
):
    """For any number of candidates."""
    decode = build_engine(task, device, arch, options, kind)
    decode.model.longest_target, source = 24, source[:3, -9:]
    per_token = {"nart_ctc_tiny": 3, "nart_dag_tiny": 4}
    length = per_token[arch] * source.size(1) if arch in per_token else 24
    elements = max(
        decode.model.row_elements(length, source.size(1), decode.options),
        decode.model.sentence_elements(source.size(1), decode.options),
        2 * fertility.BLOCK * fertility.CLASSES,  # a block of noise, in float64
    )
    if kind:
        elements = max(elements, decode.rescorer.row_elements(length, source.size(1)))
        elements = max(elements, decode.rescorer.sentence_elements(source.size(1)))
    limit(monkeypatch, elements)
    with LargestTensor() as largest:
        decode(source, most=1)
    assert elements / 20 < largest.elements <= elements


@pytest.mark.parametrize(
    "arch, options, message",
    [
        ("nart_crf_tiny", {"crf_paths": 10**6}, "--crf-paths 1000000 .*: type at most"),
        ("nart_ctc_tiny", {"ctc_beam": 10**5}, "--ctc-beam 100000 .*: type at most"),
        (
            "nart_fertility_tiny",
            {"fertility_samples": 10**9},
            "--fertility-samples 1000000000 needs 7.5 GiB .* more than 2.0 GiB: "
            "type at most 268435456 for a sentence of 1 token$",
        ),
    ],
)
def test_option_too_large_for_any_sentence_is_refused_early(arch, options, message, task, device):
    with pytest.raises(ValueError, match=message) as error:
        build_engine(task, device, arch, options)
    (name,), fits = options, int(str(error.value).split("at most ")[1].split()[0])
    assert build_engine(task, device, arch, {name: fits})
    with pytest.raises(ValueError, match=message.split()[0]):
        build_engine(task, device, arch, {name: fits + 1})


def test_sentence_that_does_not_fit_is_refused(task, source, device, monkeypatch):
    decode = build_engine(task, device, "nart_dcrf_tiny", {"crf_paths": 50})
    needed = decode.model.row_elements(80, source.size(1), decode.model.Decoding())
    monkeypatch.setattr("fairseq_nart.generation.engine.MOST_ELEMENTS", needed)
    with pytest.raises(ValueError, match=r"^--crf-paths 50 needs .* at most \d+ for a sentence of"):
        decode(source)
    monkeypatch.setattr("fairseq_nart.generation.engine.MOST_ELEMENTS", 100)
    with pytest.raises(ValueError, match=r"^a sentence of \d+ tokens and its translation of \d+ n"):
        decode(source)


def test_hypotheses_that_do_not_fit_are_refused(task, source, device, monkeypatch):
    options = {"length_candidates": 9, "crf_paths": 3}
    decode = build_engine(task, device, "nart_crf_tiny", options)
    monkeypatch.setattr(ranking, "MOST_BYTES", 2**16)
    with pytest.raises(ValueError, match=r"lower --length-candidates or --crf-paths, or translate"):
        decode(source)
    assert [len(hypotheses) for hypotheses in decode(source, most=1)] == [1] * len(source)


def test_fertility_samples_do_not_depend_on_passes(task, source, device, monkeypatch):
    """Nor on earlier samples."""
    decode = build_engine(task, device, "nart_fertility_tiny", {"fertility_samples": 40})
    whole = decode(source)
    limit(monkeypatch, 3000)
    assert_same(decode(source), whole)
    fertility._gumbel.cache_clear()
    assert_same(decode(source[-3:]), whole[-3:])


def test_long_sentence_does_not_widen_others(task, source, device, monkeypatch):
    """Each sentence is encoded with those that fit into a pass with it."""
    decode = build_engine(task, device, "nart_tiny", {"length_candidates": 3})
    long = source[:1].repeat(1, 20)
    rest = torch.nn.functional.pad(source, (long.size(1) - source.size(1), 0), value=PAD)
    widths, encode = [], decode.model.encode
    decode.model.encode = lambda x: (widths.append(tuple(x.shape)), encode(x))[1]
    limit(monkeypatch, decode.model.sentence_elements(long.size(1), decode.options))
    results = decode(torch.cat([rest, long, rest]))
    ours = (len(source), source.size(1))
    assert widths == [ours, long.shape, ours]
    assert_same(results, decode(source) + decode(long) + decode(source))


def test_plan_has_little_padding():
    """One pass if everything fits; otherwise sentences apart, and candidates grouped by length."""
    lengths = [[3, 4, 5], [1, 2, 3], [1, 9, 2]]
    valid = [[True] * 3, [False, True, True], [True] * 3]

    def planned(most):
        parts = passes.plan(lengths, valid, lambda length: length, most)
        return [(part.start, part.stop, columns) for part, columns in parts]

    every = [0, 1, 2]
    assert planned(81) == [(0, 3, [every])]
    assert planned(80) == [(0, 2, [every]), (2, 3, [every])]
    assert planned(15) == [(0, 1, [every]), (1, 2, [every]), (2, 3, [[1], [2, 0]])]
    assert planned(1) == [(0, 1, [[2], [1], [0]]), (1, 2, [[2], [1]]), (2, 3, [[1], [2], [0]])]

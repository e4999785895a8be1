"""The engine: batch composition, padding, candidate lengths, rescoring, order of hypotheses."""

import pytest
import torch
from toys import build, build_teacher

from fairseq_nart.errors import UserError
from fairseq_nart.generation import passes
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.generator import NartGenerator
from fairseq_nart.generation.system import Request
from fairseq_nart.layers.positions import SinusoidalPositions
from fairseq_nart.teacher.rescoring import TeacherRescorer

ARCHS = ["nart_tiny", "nart_crf_tiny", "nart_dcrf_tiny"]
EOS, PAD = 2, 1


@pytest.fixture(scope="module")
def sources(task):
    task.load_dataset("test")
    return [task.dataset("test")[i]["source"] for i in range(9)]


def padded(sources, side, device):
    width = max(len(s) for s in sources)
    rows = [
        torch.cat([s.new_full((width - len(s),), PAD), s][:: 1 if side == "left" else -1])
        for s in sources
    ]
    return torch.stack(rows).to(device)


def engine(model, **options):
    return Engine(model, eos=EOS, pad=PAD, options=model.Decoding(**options))


def assert_same(one, other):
    assert [len(h) for h in one] == [len(h) for h in other]
    for mine, theirs in zip(one, other):
        for a, b in zip(mine, theirs):
            assert a.tokens.tolist() == b.tokens.tolist()
            assert a.score == pytest.approx(b.score, abs=1e-4)
            torch.testing.assert_close(a.token_scores, b.token_scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("beam", [1, 4])
def test_ctc_does_not_depend_on_batch_or_padding(beam, task, sources, device):
    model = build(task, "nart_ctc_tiny").to(device)
    decode = engine(model, ctc_beam=beam)
    left = decode(padded(sources, "left", device))
    assert_same(left, decode(padded(sources, "right", device)))
    assert_same(left, [decode(source[None].to(device))[0] for source in sources])


@pytest.mark.parametrize("output", ["softmax", "dcrf"])
@pytest.mark.parametrize("options", [{"dag_search": "lookahead"}, {"dag_paths": 3}])
def test_graphs_do_not_depend_on_batch_or_padding(options, output, task, sources, device):
    model = build(task, "nart_dag_tiny", "--output", output).to(device)
    decode = engine(model, **options)
    left = decode(padded(sources, "left", device))
    assert_same(left, decode(padded(sources, "right", device)))
    assert_same(left, [decode(source[None].to(device))[0] for source in sources])


@pytest.mark.parametrize("method", ["argmax", "average"])
def test_fertilities_do_not_depend_on_batch_or_padding(method, task, sources, device):
    model = build(task, "nart_fertility_tiny").to(device)
    decode = engine(model, fertility_samples=4, fertility_decoding=method)
    left = decode(padded(sources, "left", device))
    assert min(map(len, left)) > 1
    assert_same(left, decode(padded(sources, "right", device)))
    assert_same(left, [decode(source[None].to(device))[0] for source in sources])


@pytest.mark.parametrize("arch", ["nart_crf_tiny", "nart_dcrf_tiny"])
def test_crf_paths_are_candidates(arch, task, sources, device):
    """The best path of each length is Viterbi's, and all candidates are distinct."""
    source = padded(sources[:3], "left", device)
    model = build(task, arch, "--crf-candidates", "2").to(device)
    viterbi = engine(model, length_candidates=3)(source)
    several = engine(model, length_candidates=3, crf_paths=9)(source)
    for few, many in zip(viterbi, several):
        assert [few[0].tokens.tolist(), few[0].score] == [
            many[0].tokens.tolist(),
            pytest.approx(many[0].score, abs=1e-5),
        ]
        texts = [tuple(h.tokens.tolist()) for h in many]
        assert {tuple(h.tokens.tolist()) for h in few} <= set(texts)
        assert len(few) < len(texts) == len(set(texts)) <= 27
        assert all(h.token_scores.isfinite().all() for h in many)
    model.crf.candidates = 1  # so each length has one path
    assert_same(
        engine(model, length_candidates=3)(source),
        engine(model, length_candidates=3, crf_paths=9)(source),
    )
    model.crf.candidates = 2
    teacher = build_teacher(task, "transformer").to(device)
    rescorer = TeacherRescorer(teacher, EOS, "mean", 0.0)
    options = model.Decoding(length_candidates=3, crf_paths=9)
    ranked = Engine(model, eos=EOS, pad=PAD, options=options, rescorer=rescorer)(source)
    for many, best in zip(several, ranked):
        assert {tuple(h.tokens.tolist()) for h in many} == {tuple(h.tokens.tolist()) for h in best}
        assert [h.score for h in best] == sorted((h.score for h in best), reverse=True)
    with pytest.raises(ValueError, match="--crf-paths has no effect on this Nart"):
        engine(build(task, "nart_tiny"), crf_paths=2)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("source_map", ["pad", "hard_uniform", "soft_uniform"])
def test_lengths_do_not_depend_on_batch_or_padding(arch, source_map, task, sources, device):
    words = ("--decoder-input", source_map, "--length-predictor", "classifier")
    model = build(task, arch, *words, "--mask-self-attention-diagonal").to(device)
    decode = engine(model, length_candidates=3)
    left = decode(padded(sources, "left", device))
    assert_same(left, decode(padded(sources, "right", device)))
    assert_same(left, [decode(source[None].to(device))[0] for source in sources])


@pytest.mark.parametrize(
    "arch, options",
    [
        ("nart_refinement_tiny", {"refinement_iterations": 3}),
        ("nart_refinement_tiny", {"refinement_iterations": 8, "refinement_stop": "unchanged"}),
        ("nart_refinement_tiny", {"refinement_iterations": 8, "refinement_stop": "equality"}),
        ("nart_refinement_tiny", {"refinement_iterations": 8, "refinement_stop": "jaccard"}),
        ("nart_cmlm_tiny", {"refinement_iterations": 4}),
    ],
)
def test_refinement_does_not_depend_on_batch_or_padding(
    arch, options, task, sources, device, monkeypatch
):
    """Nor on the passes of the engine. This includes the number of iterations."""
    model = build(task, arch, seed=6).to(device)
    decode = engine(model, length_candidates=3, **options)
    left = decode(padded(sources, "left", device))
    others = [decode(padded(sources, "right", device))]
    others.append([decode(source[None].to(device))[0] for source in sources])
    monkeypatch.setattr(passes, "ELEMENTS_PER_PASS", {"cpu": 1, "accelerator": 1})
    others.append(decode(padded(sources, "left", device)))
    numbers = [[h.iterations for h in hypotheses] for hypotheses in left]
    for other in others:
        assert_same(left, other)
        assert [[h.iterations for h in hypotheses] for hypotheses in other] == numbers
    flat = {number for sentence in numbers for number in sentence}
    assert max(flat) <= options["refinement_iterations"]
    if options.get("refinement_stop") == "unchanged":
        assert len(flat) > 1, "the test needs sentences that stop at different iterations"
    elif "refinement_stop" not in options:
        assert flat == {options["refinement_iterations"]}


def test_hypotheses_have_the_number_of_iterations(task, sources, device):
    """fairseq-generate --print-step prints it."""
    sample = {"net_input": {"src_tokens": padded(sources[:3], "left", device)}}
    for arch, options, expected in (
        ("nart_tiny", {}, 1),
        ("nart_refinement_tiny", {}, 10),
        ("nart_cmlm_tiny", {"refinement_iterations": 2}, 2),
    ):
        generator = NartGenerator(engine(build(task, arch).to(device), **options))
        assert {h[0]["steps"] for h in generator.generate(None, sample)} == {expected}


def test_candidates_have_the_lengths_of_the_window(task, sources, device):
    """{T+C-b .. T+C+b}, at least 1."""
    model = build(task, "nart_tiny", "--length-predictor", "offset").to(device)
    model.lengths.offset.fill_(3 - len(sources[0]))
    model.longest_target = 60
    lengths = []
    decode = model.decode

    def spy(request):
        lengths.extend(request.proposal.lengths.flatten().tolist())
        return decode(request)

    model.decode = spy
    for number in (9, 10**12 + 1):  # more candidates than valid lengths cost nothing
        engine(model, length_candidates=number)(sources[0][None].to(device))
        assert sorted(lengths) == list(range(1, 8 if number == 9 else 61))
        lengths.clear()


def test_training_continues_after_decoding(task, sources, device):
    """Decoding leaves no inference tensors in the models, and its results can be modified."""
    model = build(task, "nart_dcrf_tiny").to(device)
    teacher = TeacherRescorer(build_teacher(task, "transformer"), EOS, "mean", 1.0)
    batch = padded(sources, "left", device)
    decode = Engine(model, eos=EOS, pad=PAD, rescorer=teacher)
    for precision in (torch.float32, torch.float64):
        model.to(precision)
        for side in (model.encoder, model.decoder):
            short = SinusoidalPositions(model.cfg.embed_dim, PAD + 1, length=1)
            side.embed_positions = short.to(device, precision)
        best = decode(batch)[0][0]
        best.tokens.add_(1)
        best.token_scores.div_(2)
    sum(term.sum for term in model.train()(batch, padded(sources, "right", device))).backward()
    assert not any(weight.is_inference() for weight in teacher.teacher.parameters())


@pytest.mark.parametrize(
    "arch", [*ARCHS, "nart_fertility_tiny", "nart_cmlm_tiny", "nart_refinement_tiny"]
)
def test_output_layer_skips_padding_on_a_cpu(arch, task, sources, device, monkeypatch):
    """The result equals that of all positions, which a GPU computes."""
    model, rows = build(task, arch).to(device), []
    states = model.encode(padded(sources, "left", device))
    proposal = model.propose(states, model.Decoding())
    options = model.Decoding(refinement_iterations=1) if "cmlm" in arch else model.Decoding()

    def decode():
        rows.clear()
        return model.decode(Request(states, proposal, options))

    layer = model.decoder.output_projection
    layer.register_forward_hook(lambda *call: rows.append(call[2][..., 0].numel()))
    decoded, real = decode(), int(proposal.lengths.sum())
    assert decoded.mask.sum() == real < decoded.mask.numel()
    assert set(rows) == {real if device.type == "cpu" else decoded.mask.numel()}
    monkeypatch.setattr(
        model, "decoding_emissions", lambda features, _: model.forbid(layer(features))
    )
    every, mask = decode(), decoded.mask
    assert torch.equal(decoded.tokens[mask], every.tokens[mask])
    torch.testing.assert_close(decoded.log_probs[mask], every.log_probs[mask])


def test_hypotheses_are_distinct_and_sorted(task, sources, device):
    model = build(task, "nart_crf_tiny").to(device)
    for hypotheses in engine(model, length_candidates=9, dedup=True)(
        padded(sources, "left", device)
    ):
        texts = [tuple(h.tokens.tolist()) for h in hypotheses]
        assert len(set(texts)) == len(texts)
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for h in hypotheses:
            assert h.tokens[-1] == EOS and EOS not in h.tokens[:-1]
            assert h.score == pytest.approx(h.token_scores.mean().item(), abs=1e-5)
            assert not any(a == b for a, b in zip(h.tokens[:-2], h.tokens[1:-1]))


@pytest.mark.parametrize(
    "arch, options",
    [
        ("nart_dcrf_tiny", {"length_candidates": 3}),
        ("nart_refinement_tiny", {"refinement_stop": "jaccard"}),
        ("nart_cmlm_tiny", {"length_candidates": 3}),
        ("nart_fertility_tiny", {"fertility_samples": 3}),
        ("nart_latent_tiny", {"latent_samples": 3}),
        ("nart_ctc_tiny", {}),
        ("nart_dag_tiny", {"dag_paths": 3}),
        ("nart_ctc_tiny", {"ctc_beam": 3}),
    ],
)
def test_empty_source_has_an_empty_translation(arch, options, task, sources, device):
    model = build(task, arch).to(device)
    empty = torch.tensor([EOS])
    both = engine(model, **options)(padded([sources[0], empty], "left", device))
    assert both[0][0].tokens[-1] == EOS
    assert [h.tokens.tolist() for h in both[1]] == [[EOS]]


def test_option_of_another_system_is_refused(task):
    model = build(task, "nart_tiny")
    with pytest.raises(UserError, match="--crf-paths has no effect on this Nart: leave it out"):
        engine(model, crf_paths=3)

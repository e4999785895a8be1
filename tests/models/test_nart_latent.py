"""Systems with discrete latents: training phases, proposals, decoding, no leak of the target."""

import copy
import logging

import pytest
import torch
from toys import (
    SMALL,
    batch_of,
    build,
    build_teacher,
    fairseq_generate,
    fairseq_train,
    lines_of,
    overfit,
)

from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.system import Request
from fairseq_nart.models import _latent
from fairseq_nart.models._warm_start import warm_start
from fairseq_nart.teacher.rescoring import TeacherRescorer

EOS, PAD = 2, 1
KINDS = {
    "semhash": ("nart_latent_tiny", "--latent-bits", "6"),
    "dvq": ("nart_latent_tiny", "--latent-bits", "6", "--quantizer", "dvq"),
    "vqvae": ("nart_vqvae_tiny", "--latent-bits", "6"),
}


@pytest.fixture(params=KINDS)
def words(request):
    return KINDS[request.param]


@pytest.fixture
def batch(task, device):
    return batch_of(task, device, rows=5)


def arguments(batch):
    return batch["net_input"]["src_tokens"], batch["target"]


def engine(model, rescorer=None, **options):
    return Engine(model, eos=EOS, pad=PAD, options=model.Decoding(**options), rescorer=rescorer)


def terms_of(model, batch):
    return {term.name: term for term in model(*arguments(batch))}


@pytest.mark.parametrize("compression", ["2", "8"])
def test_model_overfits(words, compression, task, batch, device):
    """The target's length is no multiple of the compression; the number of latents is learned."""
    # By hard EM: memorised sentences need no latents, so these become equal, and samples random.
    hard = ["--code-samples", "0"] if "nart_vqvae_tiny" in words else []
    model = build(task, *words, "--compression", compression, *hard).to(device)
    for updates, lr, revives in ((20, 1e-2, True), (250, 5e-3, False)):
        model.quantizer.revives = revives
        expected = overfit(task, model, batch, updates, lr)
    assert any(len(target) % int(compression) for target in expected)
    hypotheses = engine(model)(batch["net_input"]["src_tokens"])
    assert [h[0].tokens.tolist() for h in hypotheses] == expected
    assert terms_of(model, batch)["reconstructed"].sum == batch["ntokens"]


def test_decoder_does_not_see_the_targets_length_or_tokens(words, task, batch, device):
    """In validation as in decoding, the decoder reads only the source and the latents."""
    model, (source, target) = build(task, *words).to(device), arguments(batch)
    states, mask = model.encode(source), target.ne(PAD)
    width = 8 * -(-target.size(1) // 8)
    padded = torch.full((len(target), width), PAD, device=device)
    padded[:, : target.size(1)] = target
    latents = padded[:, ::8].ne(PAD)
    embedded = model.decoder.embed(padded) * padded.ne(PAD)[..., None]
    quantized = model.quantizer(model.compressor(embedded, latents), latents)
    features = model.features(states, quantized.labels[..., 0], latents)
    emissions = model.decoder.output_projection(features)[:, : target.size(1)].float()
    losses = -emissions.log_softmax(dim=2).gather(2, target[..., None]).squeeze(2)
    torch.testing.assert_close(terms_of(model, batch)["nar_loss"].sum, losses[mask].sum())


def test_padding_has_no_loss(words, task, device):
    """Beyond the EOS and in other sentences of the batch."""
    model = build(task, *words).to(device)
    source = torch.tensor([[5, 6, 2], [7, 8, 2]], device=device)
    target = torch.tensor([[5, 6, 7, 8, 9, 5, 6, 7, 8, 2], [5, 2, *[PAD] * 8]], device=device)
    together = {term.name: term for term in model(source, target)}
    alone = [
        {term.name: term for term in model(source[:1], target[:1])},
        {term.name: term for term in model(source[1:], target[1:, :2])},
    ]
    for name, term in together.items():
        torch.testing.assert_close(term.sum, sum(one[name].sum for one in alone))
        assert term.count == sum(one[name].count for one in alone)
    assert together["nar_loss"].count == 12 and together["latent_loss"].count == 5


def test_phases_are_shares_of_the_training(words, task, batch, device, monkeypatch):
    phases = ["--discrete-by", "0.2", "--hidden-by", "0.5"]
    model = build(task, *words, *phases).to(device).train()
    model.cfg.max_update = 100
    monkeypatch.setattr(model, "_warn_of_collapse", lambda updates: None)
    seen = {}
    for update in (1, 10, 25, 50, 100):
        model.set_num_updates(update)
        seen[update] = rising = model._rising(0.2), model._rising(0.5)
        share = terms_of(model, batch)["nar_loss"].count / batch["ntokens"]
        assert abs(share - rising[1]) < 0.25
    assert seen[1] == (pytest.approx(0.05), pytest.approx(0.02))
    assert seen[10] == (pytest.approx(0.5), pytest.approx(0.2))
    assert seen[25] == (1.0, pytest.approx(0.5))
    assert seen[50] == seen[100] == (1.0, 1.0)
    assert terms_of(model, batch)["nar_loss"].count == batch["ntokens"]


def test_validation_has_the_weights_of_the_end(words, task, batch, device):
    """Else the best checkpoint could be one of the first phases."""
    model = build(task, *words).to(device).eval()
    model.cfg.max_update = 100
    seen = []
    for update in (1, 100):
        model.set_num_updates(update)
        terms = terms_of(model, batch).values()
        seen.append([(term.name, term.weight, term.count, term.sum.item()) for term in terms])
    assert seen[0] == seen[1]


def test_loading_a_checkpoint_does_not_warn(words, task, caplog):
    """fairseq tells a new model its updates before it loads the counts."""
    model = build(task, *words).train()
    model.cfg.max_update = 100
    model.set_num_updates(100)
    assert "collapsed" not in caplog.text
    model.quantizer.usage.counts[0] = 1
    model.set_num_updates(100)
    assert "collapsed" in caplog.text


def test_every_weight_has_a_gradient_in_every_phase(words, task, batch, device):
    """Training on several GPUs would wait for one that has none."""
    model = build(task, *words).to(device).train()
    model.cfg.max_update = 100
    for update in (1, 5, 100):
        model.set_num_updates(update)
        model.zero_grad()
        sum(term.weight * term.sum for term in terms_of(model, batch).values()).backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_predictor_does_not_train_the_compressor(words, task, batch, device):
    model = build(task, *words).to(device)
    model.zero_grad()
    terms_of(model, batch)["latent_loss"].sum.backward()
    assert model.predictor.start_vector.grad.any()
    assert not [n for n, p in model.compressor.named_parameters() if p.grad is not None]


def test_predictor_loss_equals_its_definition(words, task, batch, device):
    """-log p of each latent and of the end, from `propose`'s way of computing them."""
    model, (source, target) = build(task, *words).to(device), arguments(batch)
    expected = 0.0
    for row, tokens in zip(source, target, strict=True):
        one, states = tokens[tokens != PAD], model.encode(row[row != PAD][None])
        blocks = -(-len(one) // 8)
        padded = torch.full((1, 8 * blocks), PAD, device=device)
        padded[0, : len(one)] = one
        mask = torch.ones(1, blocks, dtype=torch.bool, device=device)
        embedded = model.decoder.embed(padded) * padded.ne(PAD)[..., None]
        codes = model.quantizer(model.compressor(embedded, mask), mask).labels[0, :, 0]
        memory = model.predictor.memory(states.output)
        cache = memory.new_zeros(1, 0, memory.size(2))
        before = [model.predictor.end, *codes.tolist()]
        for last, code in zip(before, [*codes.tolist(), model.predictor.end], strict=True):
            x = model.latent_vectors(torch.tensor([last], device=device))
            logits, cache = model.predictor.step(x, cache, memory, states.mask)
            expected -= logits.log_softmax(dim=1)[0, code]
    actual = terms_of(model, batch)["latent_loss"].sum
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)


def test_proposed_latents(words, task, batch, device):
    """At least one, at most twice the source's tokens divided by C; lengths are multiples of C."""
    model = build(task, *words, "--compression", "4").to(device)
    states = model.encode(batch["net_input"]["src_tokens"])
    proposal = model.propose(states, model.Decoding(latent_samples=6))
    most = (2 * states.lengths + 3) // 4
    counts = proposal.lengths // 4
    assert torch.equal(counts * 4, proposal.lengths)
    assert (counts >= 1).all() and (counts <= most[:, None]).all()
    assert (proposal.latents < model.quantizer.codes).all()
    beyond = torch.arange(proposal.latents.size(2), device=device) >= counts[..., None]
    assert not proposal.latent_log_probs[beyond].any()
    decoded = model.decode(Request(states, proposal, model.Decoding()))
    assert torch.equal(decoded.mask.sum(dim=1).view_as(counts), proposal.lengths)


def test_first_candidate_is_greedy_and_log_probs_are_the_predictors(task, batch, device):
    model = build(task, *KINDS["vqvae"], "--compression", "4").to(device)
    states = model.encode(batch["net_input"]["src_tokens"])
    proposal = model.propose(states, model.Decoding(latent_samples=3))
    for row in range(len(states.mask)):
        one = states.select(slice(row, row + 1))
        for column in range(3):
            count = int(proposal.lengths[row, column]) // 4
            codes = proposal.latents[row, column, :count]
            mask = torch.ones(1, count, dtype=torch.bool, device=device)
            logits = model.predictor.logits(model.latent_vectors(codes)[None], mask, one)[0]
            logits[0, -1] = float("-inf")
            scores = logits.log_softmax(dim=1)
            total = scores[:-1].gather(1, codes[:, None]).sum()
            if column == 0:
                assert torch.equal(scores[:-1].argmax(dim=1), codes)
            if count < (2 * one.lengths + 3) // 4:
                total = total + scores[-1, -1]
            torch.testing.assert_close(proposal.latent_log_probs[row, column].sum(), total)


def test_samples_follow_the_predictors_distribution(task, device):
    model = build(task, *KINDS["semhash"]).to(device)
    with torch.no_grad():
        model.predictor.output_projection.weight.mul_(3.0)
    states = model.encode(torch.tensor([[5, 6, 2]], device=device))
    proposal = model.propose(states, model.Decoding(latent_samples=4001))
    counts = torch.bincount(proposal.latents[0, 1:, 0], minlength=64) / 4000
    start = model.latent_vectors(torch.tensor([64], device=device))
    memory = model.predictor.memory(states.output)
    logits, _ = model.predictor.step(start, memory[:, :0], memory, states.mask)
    expected = logits[0, :-1].softmax(dim=0)
    torch.testing.assert_close(counts, expected, atol=0.03, rtol=0)


def test_candidates_are_the_same_alone_in_a_batch_and_with_padding_on_either_side(
    words, task, batch, device
):
    model = build(task, *words, "--compression", "2").to(device)
    source = batch["net_input"]["src_tokens"]
    decode = engine(model, latent_samples=4)
    together = decode(source)
    moved = torch.full_like(source, PAD)
    for row, tokens in enumerate(source):
        real = tokens[tokens != PAD]
        moved[row, : len(real)] = real
        (alone,) = decode(real[None])
        assert [h.tokens.tolist() for h in alone] == [h.tokens.tolist() for h in together[row]]
        scores = [h.score for h in together[row]]
        assert [h.score for h in alone] == pytest.approx(scores, abs=1e-4)
    right = decode(moved)
    assert not torch.equal(moved, source)
    for one, other in zip(together, right, strict=True):
        assert [h.tokens.tolist() for h in one] == [h.tokens.tolist() for h in other]


def test_more_samples_never_lower_the_teachers_score(words, task, batch, device):
    """The candidates of few samples are among those of many, and the best of all is chosen."""
    model = build(task, *words, "--compression", "2").to(device)
    rescorer = TeacherRescorer(build_teacher(task, "transformer").to(device), EOS, "mean", 0.0)
    source, before, texts = batch["net_input"]["src_tokens"], None, None
    for samples in (1, 3, 8):
        results = engine(model, rescorer, latent_samples=samples)(source)
        best = torch.tensor([hypotheses[0].score for hypotheses in results])
        outputs = [{tuple(h.tokens.tolist()) for h in hypotheses} for hypotheses in results]
        if before is not None:
            assert (best >= before - 1e-5).all()
            assert all(few <= many for few, many in zip(texts, outputs))
        before, texts = best, outputs
    assert max(map(len, outputs)) > 3


def test_predictor_starts_from_the_teachers_decoder(task, device):
    teacher, model = build_teacher(task, "transformer"), build(task, *KINDS["vqvae"])
    report = warm_start(model, teacher.state_dict(), "teacher.pt")
    assert report.endswith("unused there: decoder.embed_tokens")  # tied
    weights = model.state_dict()
    for name in ("layers.1.fc1.weight", "layers.0.self_attn.q_proj.weight"):
        assert torch.equal(weights[f"predictor.{name}"], weights[f"decoder.{name}"])
    other = build(task, *KINDS["vqvae"], seed=5)
    warm_start(other, weights, "vqvae.pt")
    assert all(torch.equal(x, weights[name]) for name, x in other.state_dict().items())


def test_collapse_is_reported(task, caplog):
    model = build(task, *KINDS["vqvae"])
    model.cfg.max_update = 400
    model.quantizer.usage.counts[:2] = 1.0
    with caplog.at_level(logging.WARNING, logger=_latent.__name__):
        model.set_num_updates(100)
        assert not caplog.records  # too early
        model.set_num_updates(200)
    (record,) = caplog.records
    assert "perplexity 2.0 of 64 codes after 200 updates" in record.getMessage()
    assert "--lr" in record.getMessage()
    caplog.clear()
    model.quantizer.usage.counts[:] = 1.0
    model.set_num_updates(300)
    assert not caplog.records


def test_bad_options_are_refused(task):
    for words, message in (
        (("nart_vqvae_tiny", "--compression", "6"), "--compression must be a power of 2"),
        (("nart_vqvae_tiny", "--latent-bits", "17"), "--latent-bits must be at least 1 and at mos"),
        (("nart_latent_tiny", "--codebook-decay", "0.9"), "--codebook-decay is for --quantizer dv"),
        (
            ("nart_latent_tiny", "--quantizer", "dvq", "--codebook-slices", "3"),
            "--embed-dim 16 must be a multiple of --codebook-slices 3",
        ),
    ):
        with pytest.raises(UserError, match=message):
            build(task, *words)
    with pytest.raises(UserError, match="--latent-samples must be at least 1, not 0"):
        build(task, *KINDS["vqvae"]).Decoding(latent_samples=0)
    with pytest.raises(UserError, match="--max-update must be given"):
        build(task, *KINDS["vqvae"]).set_num_updates(1)


def test_benchmark_times_the_latent_predictor(task):
    parts = {name: part for _, name, part in build(task, *KINDS["vqvae"]).timed_parts()}
    assert parts == {"encode": "encoder", "propose": "latents", "decode": "decoder"}


def test_bf16_is_close_to_fp32(words, task, batch, device):
    model = build(task, *words).to(device)
    high = {name: term.sum.item() for name, term in terms_of(model, batch).items()}
    low = terms_of(copy.deepcopy(model).bfloat16(), batch)
    for name in ("nar_loss", "latent_loss"):
        assert low[name].sum.dtype == torch.float32
        assert low[name].sum.item() == pytest.approx(high[name], rel=5e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_fairseq_commands_train_and_generate(kind, data, teacher, tmp_path, capsys):
    """In bf16, with BLEU on valid; a checkpoint without statistics is refused."""
    arch, *options = KINDS[kind]
    words = ["--arch", arch, *options, *SMALL, "--lr", "1e-2", "--bf16", "--no-epoch-checkpoints"]
    whole = fairseq_train(data, tmp_path / "whole", *words, "--max-update", "4", "--eval-bleu")
    capsys.readouterr()
    samples = ["--latent-samples", "4", "--rescore-with", str(teacher), "--nbest", "4"]
    fairseq_generate(data, whole, *samples)
    lines = lines_of(capsys.readouterr().out, "H")
    assert len(lines) == 17 and max(map(len, lines.values())) > 1
    state = torch.load(whole, weights_only=True)
    name = "quantizer.usage.counts" if kind == "semhash" else "quantizer.sums"
    assert state["model"][name].dtype == torch.float32 and state["model"][name].any()
    del state["model"][name]
    torch.save(state, tmp_path / "without.pt")
    with pytest.raises(UserError, match=f"lacks {name}"):
        fairseq_generate(data, tmp_path / "without.pt")

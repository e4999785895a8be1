"""NART, NART-CRF and NART-DCRF: warm starts, losses and decoding."""

import pytest
import torch
from toys import build, build_teacher

from fairseq_nart.generation.system import Request
from fairseq_nart.layers.states import Proposal
from fairseq_nart.models._warm_start import warm_start


@pytest.fixture
def batch(task, device):
    task.load_dataset("valid")
    data = task.dataset("valid")
    batch = data.collater([data[i] for i in range(5)])
    return batch["net_input"]["src_tokens"].to(device), batch["target"].to(device)


def fresh(task, arch, device, *words):
    """A student with the transitions of the start of training."""
    model = build(task, arch, *words).to(device)
    if getattr(model, "crf", None):
        torch.nn.init.zeros_(model.crf.transitions.target.weight)
    if arch.startswith("nart_dcrf"):
        torch.nn.init.zeros_(model.crf.transitions.f[2].weight)
    return model


def decode(model, states, lengths):
    proposal = Proposal(lengths, torch.ones_like(lengths) > 0)
    return model.decode(Request(states, proposal, model.Decoding()))


@pytest.mark.parametrize("length_predictor", ["offset", "classifier"])
def test_nart_crf_and_dcrf_start_equal(task, batch, length_predictor, device):
    """A warm start begins exactly where NART ended: same outputs, same likelihood."""
    words = ("--length-predictor", length_predictor, "--label-smoothing", "0")
    source, target = batch
    nart = build(task, "nart_tiny", *words, seed=3).to(device)
    expected = {term.name: term for term in nart(source, target)}
    lengths = target.ne(task.tgt_dict.pad()).sum(dim=1, keepdim=True)
    decoded = decode(nart, nart.encode(source), lengths)
    mask = decoded.mask
    for arch in ("nart_crf_tiny", "nart_dcrf_tiny"):
        crf = fresh(task, arch, device, *words, "--crf-candidates", "100000")
        warm_start(crf, nart.state_dict(), "nart.pt")
        terms = {term.name: term for term in crf(source, target)}
        torch.testing.assert_close(terms["crf_loss"].sum, expected["nar_loss"].sum)
        torch.testing.assert_close(terms["nar_loss"].sum, expected["nar_loss"].sum)
        assert terms["nar_loss"].weight == 0.5 and terms["crf_loss"].weight == 1.0
        same = decode(crf, crf.encode(source), lengths)
        assert torch.equal(same.tokens[mask], decoded.tokens[mask])
        torch.testing.assert_close(
            same.log_probs[mask], decoded.log_probs[mask], rtol=1e-4, atol=1e-4
        )


def test_dcrf_starts_where_crf_ended(task, batch, device):
    source, target = batch
    crf = build(task, "nart_crf_tiny", seed=3).to(device)
    dcrf = fresh(task, "nart_dcrf_tiny", device)
    report = warm_start(dcrf, crf.state_dict(), "crf.pt")
    assert "crf.transitions.f" in report and "unused there: nothing" in report
    for mine, theirs in zip(dcrf(source, target), crf(source, target)):
        torch.testing.assert_close(mine.sum, theirs.sum)


@pytest.mark.parametrize("arch", ["nart_crf_tiny", "nart_dcrf_tiny"])
def test_crf_loss_equals_the_layers(arch, task, batch, device):
    """Also if the reference is not among the candidates. The gradient reaches the decoder."""
    (source, target), model = batch, build(task, arch, "--crf-candidates", "3").to(device)
    mask, weight = target.ne(task.tgt_dict.pad()), model.decoder.layers[0].fc1.weight
    actual = model(source, target)[0].sum
    features, emissions = model.run_decoder(model.encode(source), mask)
    states = model.head.states(features)
    expected = -model.crf.log_likelihood(emissions, target, mask, states).sum()
    torch.testing.assert_close(actual, expected)
    ours, theirs = (torch.autograd.grad(x, weight)[0] for x in (actual, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "arch, option, name",
    [
        ("nart_tiny", "--length-loss-weight", "length_loss"),
        ("nart_crf_tiny", "--nar-loss-weight", "nar_loss"),
    ],
)
def test_loss_weights_are_applied(arch, option, name, task, batch, device):
    model = build(task, arch, option, "3").to(device)
    assert {term.name: term.weight for term in model(*batch)}[name] == 3


def test_weight_without_its_loss_is_refused(task):
    words = ("--length-predictor", "offset", "--length-loss-weight", "0.5")
    with pytest.raises(ValueError, match=r"--length-loss-weight 0\.5 .*; offset has none"):
        build(task, "nart_tiny", *words)


def test_rank_and_label_smoothing_are_applied(task, batch, device):
    assert build(task, "nart_crf_tiny", "--crf-rank", "5").crf.transitions.rank == 5
    for arch in ("nart_tiny", "nart_crf_tiny"):
        losses = [
            {t.name: t.sum for t in build(task, arch, "--label-smoothing", s).to(device)(*batch)}
            for s in ("0", "0.3")
        ]
        assert losses[0]["nar_loss"] != losses[1]["nar_loss"]


@pytest.mark.parametrize("which", ["dropout", "attention-dropout", "activation-dropout"])
def test_dropout_is_only_for_training(which, task, batch, device):
    model = build(task, "nart_tiny", "--length-predictor", "offset", f"--{which}", "0.5").to(device)
    assert model(*batch)[0].sum == model(*batch)[0].sum
    model.train()
    assert model(*batch)[0].sum != model(*batch)[0].sum


@pytest.mark.parametrize("before", [False, True])
def test_decoder_equals_the_teachers_without_causal_mask(before, task, batch, device):
    """A warm start relies on it: embeddings, positions and the order of layers and norms."""
    sides = ["--encoder-normalize-before", "--decoder-normalize-before"]
    teacher = build_teacher(task, "transformer", *sides[: 2 * before]).to(device)
    model = build(task, "nart_cmlm_tiny", *["--normalize-before"][:before]).to(device)
    warm_start(model, teacher.state_dict(), "teacher.pt")
    source, target = batch
    lengths, mask = source.ne(task.src_dict.pad()).sum(dim=1), target.ne(task.tgt_dict.pad())
    theirs, _ = teacher.decoder.extract_features(
        target, teacher.encoder(source, lengths), full_context_alignment=True
    )
    ours = model.decoder(model.decoder.embed(target), mask, model.encode(source))
    torch.testing.assert_close(ours[mask], theirs[mask], rtol=1e-4, atol=1e-4)


def test_transitions_change_the_output(task, batch, device):
    """Otherwise the equalities above would prove nothing."""
    source, target = batch
    lengths = target.ne(task.tgt_dict.pad()).sum(dim=1, keepdim=True)
    nart = build(task, "nart_tiny", seed=3).to(device)
    crf = build(task, "nart_crf_tiny", seed=4).to(device)
    warm_start(crf, nart.state_dict(), "nart.pt")
    ours, theirs = (decode(model, model.encode(source), lengths) for model in (crf, nart))
    assert not torch.equal(ours.tokens[ours.mask], theirs.tokens[ours.mask])


def test_crf_log_probs_sum_to_the_likelihood(task, batch, device):
    source, target = batch
    model = build(task, "nart_dcrf_tiny", "--crf-candidates", "7").to(device)
    states = model.encode(source)
    decoded = decode(model, states, target.ne(task.tgt_dict.pad()).sum(dim=1, keepdim=True))
    mask = decoded.mask
    features, emissions = model.run_decoder(states, mask)
    emissions[..., model.forbidden] = float("-inf")
    likelihood = model.crf.log_likelihood(emissions, decoded.tokens, mask, features)
    torch.testing.assert_close(decoded.log_probs.sum(dim=1), likelihood, rtol=1e-4, atol=1e-4)
    assert not decoded.log_probs[~mask].any()


@pytest.mark.parametrize("source_map", ["pad", "hard_uniform", "soft_uniform"])
def test_candidates_do_not_depend_on_each_other(source_map, task, batch, device):
    """N targets of a sentence share its source; the result equals that of N sentences."""
    model = build(task, "nart_dcrf_tiny", "--decoder-input", source_map).to(device)
    states = model.encode(batch[0])
    lengths = torch.tensor([3, 7, 5], device=device).expand(len(batch[0]), -1)
    together = decode(model, states, lengths)
    mask = together.mask
    rows = torch.arange(len(lengths), device=device).repeat_interleave(3)
    alone = decode(model, states.select(rows), lengths.reshape(-1, 1))
    assert torch.equal(mask, alone.mask)
    assert torch.equal(together.tokens[mask], alone.tokens[mask])
    torch.testing.assert_close(together.log_probs, alone.log_probs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arch", ["nart_tiny", "nart_dcrf_tiny"])
def test_special_symbols_are_never_predicted(arch, task, device):
    model = build(task, arch).to(device)
    bias = torch.zeros(len(task.tgt_dict), device=device)
    bias[[task.tgt_dict.bos(), task.tgt_dict.pad()]] = 100
    model.decoder.output_projection.register_forward_hook(lambda *call: call[2] + bias)
    source = torch.tensor([[5, 6, 2]], device=device)
    decoded = decode(model, model.encode(source), torch.tensor([[4]], device=device))
    assert not {task.tgt_dict.bos(), task.tgt_dict.pad()} & set(decoded.tokens.flatten().tolist())


@pytest.mark.parametrize("arch", ["nart_tiny", "nart_crf_tiny", "nart_dcrf_tiny", "nart_reg_tiny"])
def test_bf16_is_close_to_fp32(arch, task, batch, device):
    source, target = batch
    model = build(task, arch).to(device)
    high = {term.name: term.sum.item() for term in model(source, target)}
    low = {term.name: term.sum for term in model.bfloat16()(source, target)}
    for name, value in low.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(high[name], rel=2e-2)


@pytest.mark.parametrize(
    "arch",
    [
        f"nart{x}_tiny"
        for x in ("", "_dcrf", "_refinement", "_cmlm", "_fertility", "_ctc", "_enat_p", "_enat_e")
    ]
    + ["nart_reg_tiny", "nart_dag_tiny", "nart_latent_tiny", "nart_vqvae_tiny"],
)
def test_targets_of_one_token(arch, task, device):
    model = build(task, arch, "--mask-self-attention-diagonal").to(device).train()
    source = torch.tensor([[5, 2], [6, 2]], device=device)
    target = torch.tensor([[2], [2]], device=device)
    side = {}
    if model.side_inputs:
        side["fertilities"] = torch.tensor([[0, 1], [1, 0]], device=device)
    terms = model(source, target, **side)
    sum(term.weight * term.sum for term in terms).backward()
    assert all(term.sum.isfinite() for term in terms)
    assert all(x.grad is None or x.grad.isfinite().all() for x in model.parameters())


def test_warm_start_refuses_embeddings_that_are_not_shared(task):
    """Otherwise an arbitrary one would be used."""
    nart = build(task, "nart_tiny")
    weights = {k: v.clone() for k, v in build(task, "nart_tiny", seed=5).state_dict().items()}
    warm_start(nart, weights, "tied.pt")
    weights["decoder.output_projection.weight"] += 1
    with pytest.raises(ValueError, match=r"are one tensor here.*--share-all-embeddings"):
        warm_start(nart, weights, "untied.pt")


def test_warm_start_reports_and_refuses(task):
    nart = build(task, "nart_tiny")
    wide = build(task, "nart_tiny", "--embed-dim", "32")
    with pytest.raises(ValueError, match=r"big\.pt: .* another shape, first .*: choose the arch"):
        warm_start(nart, wide.state_dict(), "big.pt")
    with pytest.raises(ValueError, match="no weight of it has a place"):
        warm_start(nart, {"foreign": torch.zeros(1)}, "other.pt")
    pre_norm = build(task, "nart_tiny", "--normalize-before")
    for one, two in ((nart, pre_norm), (pre_norm, nart)):
        with pytest.raises(ValueError, match=r"decoder\.layer_norm\.bias exists .*--normalize-bef"):
            warm_start(one, two.state_dict(), "x.pt")
    before = {k: v.clone() for k, v in nart.state_dict().items()}
    other = build(task, "nart_tiny", seed=5)
    report = warm_start(nart, other.state_dict(), "x.pt")
    assert "new here: nothing; unused there: nothing" in report
    changed = [k for k, v in nart.state_dict().items() if not torch.equal(v, before[k])]
    assert "encoder.embed_tokens.weight" in changed

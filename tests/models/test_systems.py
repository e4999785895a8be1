"""What ties the three systems together, and what their losses are."""

import pytest
import torch
from toys import build

from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.states import Proposal
from fairseq_nart.models._warm_start import warm_start


@pytest.fixture
def batch(task, device):
    task.load_dataset("valid")
    data = task.dataset("valid")
    batch = data.collater([data[i] for i in range(5)])
    return batch["net_input"]["src_tokens"].to(device), batch["target"].to(device)


def fresh(task, arch, device, *words):
    """A student with the transitions it starts training with."""
    model = build(task, arch, *words).to(device)
    if hasattr(model, "crf"):
        torch.nn.init.zeros_(model.crf.transitions.target.weight)
    return model


def decode(model, states, lengths):
    return model.decode(states, Proposal(lengths, torch.ones_like(lengths) > 0), DecodingOptions())


@pytest.mark.parametrize("length_predictor", ["offset", "classifier"])
def test_step_zero_nart_crf_dcrf_are_one(task, batch, length_predictor, device):
    """A warm start begins exactly where NART ended: same outputs, same likelihood."""
    words = ("--length-predictor", length_predictor, "--label-smoothing", "0")
    source, target = batch
    nart = build(task, "nart_tiny", *words, seed=3).to(device)
    expected = {term.name: term for term in nart(source, target)}
    lengths = target.ne(task.tgt_dict.pad()).sum(dim=1, keepdim=True)
    said = decode(nart, nart.encode(source), lengths)
    mask = said.mask
    for arch in ("nart_crf_tiny", "nart_dcrf_tiny"):
        crf = fresh(task, arch, device, *words, "--crf-candidates", "100000")
        warm_start(crf, nart.state_dict(), "nart.pt")
        terms = {term.name: term for term in crf(source, target)}
        torch.testing.assert_close(terms["crf_loss"].sum, expected["nar_loss"].sum)
        torch.testing.assert_close(terms["nar_loss"].sum, expected["nar_loss"].sum)
        assert terms["nar_loss"].weight == 0.5 and terms["crf_loss"].weight == 1.0
        same = decode(crf, crf.encode(source), lengths)
        assert torch.equal(same.tokens[mask], said.tokens[mask])
        torch.testing.assert_close(same.log_probs[mask], said.log_probs[mask], rtol=1e-4, atol=1e-4)


def test_dcrf_starts_where_crf_ended(task, batch, device):
    source, target = batch
    crf = build(task, "nart_crf_tiny", seed=3).to(device)
    dcrf = build(task, "nart_dcrf_tiny", seed=4).to(device)
    report = warm_start(dcrf, crf.state_dict(), "crf.pt")
    assert "crf.transitions.f" in report and "left over there: nothing" in report
    for mine, theirs in zip(dcrf(source, target), crf(source, target)):
        torch.testing.assert_close(mine.sum, theirs.sum)


def test_decoding_differs_with_trained_transitions(task, batch, device):
    """Otherwise the equalities above would say nothing."""
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
    said = decode(model, states, target.ne(task.tgt_dict.pad()).sum(dim=1, keepdim=True))
    mask = said.mask
    features, emissions = model.features(states, mask)
    emissions[..., model.never] = float("-inf")
    likelihood = model.crf.log_likelihood(emissions, said.tokens, mask, features)
    torch.testing.assert_close(said.log_probs.sum(dim=1), likelihood, rtol=1e-4, atol=1e-4)
    assert not said.log_probs[~mask].any()


@pytest.mark.parametrize("source_map", ["pad", "hard_uniform", "soft_uniform"])
def test_candidates_together_are_candidates_alone(source_map, task, batch, device):
    """N targets of a sentence read one source; they are what N sentences would be."""
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
def test_specials_are_never_said(arch, task, device):
    model = build(task, arch).to(device)
    features = model.features

    def eager(states, mask):
        x, emissions = features(states, mask)
        emissions[:, :, [task.tgt_dict.bos(), task.tgt_dict.pad()]] = 100.0
        return x, emissions

    model.features = eager
    source = torch.tensor([[5, 6, 2]], device=device)
    said = decode(model, model.encode(source), torch.tensor([[4]], device=device))
    assert not {task.tgt_dict.bos(), task.tgt_dict.pad()} & set(said.tokens.flatten().tolist())


@pytest.mark.parametrize("arch", ["nart_tiny", "nart_crf_tiny", "nart_dcrf_tiny"])
def test_bf16_is_close_to_fp32(arch, task, batch, device):
    source, target = batch
    model = build(task, arch).to(device)
    high = {term.name: term.sum.item() for term in model(source, target)}
    low = {term.name: term.sum for term in model.bfloat16()(source, target)}
    for name, value in low.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(high[name], rel=2e-2)


@pytest.mark.parametrize("arch", ["nart_tiny", "nart_dcrf_tiny"])
def test_targets_of_one_token(arch, task, device):
    model = build(task, arch, "--mask-self-attention-diagonal").to(device)
    source = torch.tensor([[5, 2], [6, 2]], device=device)
    terms = model(source, torch.tensor([[2], [2]], device=device))
    assert all(term.sum.isfinite() for term in terms)


def test_warm_start_reports_and_refuses(task):
    nart = build(task, "nart_tiny")
    wide = build(task, "nart_tiny", "--embed-dim", "32")
    with pytest.raises(ValueError, match=r"big\.pt: .* another shape, first .*: choose the arch"):
        warm_start(nart, wide.state_dict(), "big.pt")
    with pytest.raises(ValueError, match="no weight of it has a place"):
        warm_start(nart, {"foreign": torch.zeros(1)}, "other.pt")
    before = {k: v.clone() for k, v in nart.state_dict().items()}
    other = build(task, "nart_tiny", seed=5)
    report = warm_start(nart, other.state_dict(), "x.pt")
    assert "new here: nothing; left over there: nothing" in report
    changed = [k for k, v in nart.state_dict().items() if not torch.equal(v, before[k])]
    assert "encoder.embed_tokens.weight" in changed

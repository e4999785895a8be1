"""Glancing of NART with every head and of CTC: what is revealed, and what is learned."""

import pytest
import torch
from toys import SMALL, batch_of, build, fairseq_train, overfit

from fairseq_nart import hub
from fairseq_nart.crf.candidates import top_candidates
from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.layers.glancing import Glancing

ARCHS = ["nart_tiny", "nart_reg_tiny", "nart_crf_tiny", "nart_dcrf_tiny", "nart_ctc_tiny"]
every_system = pytest.mark.parametrize("arch", ARCHS)


@pytest.fixture
def batch(task, device):
    return batch_of(task, device, rows=6, split="valid")


def model_of(task, arch, ratio, device):
    words = ("--dropout", "0.2", "--glancing", "--glancing-ratio", ratio, "--max-update", "100")
    return build(task, arch, *words[: None if ratio else 2]).to(device).train()


def terms_of(model, batch):
    """The loss terms by name, each with the same random numbers."""
    torch.manual_seed(3)
    source, target = batch["net_input"]["src_tokens"], batch["target"]
    return {term.name: term for term in model(source, target)}


def inputs_of(model, batch):
    """The inputs of the decoder's passes in one training step, and the terms."""
    inputs = []
    hook = model.decoder.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    terms = terms_of(model, batch)
    hook.remove()
    return inputs, terms


@every_system
def test_ratio_0_is_the_plain_system(arch, task, batch, device):
    """Bit for bit, with dropout, also where the ratio has fallen to 0; so is every evaluation."""
    plain = terms_of(model_of(task, arch, None, device), batch)
    falling = model_of(task, arch, "0.5,0", device)
    assert terms_of(falling, batch)[next(iter(plain))].sum != plain[next(iter(plain))].sum
    falling.set_num_updates(100)
    for model in (model_of(task, arch, "0,0", device), falling):
        for name, term in terms_of(model, batch).items():
            assert torch.equal(term.sum, plain[name].sum)
    evaluated = terms_of(falling.eval(), batch)
    falling.set_num_updates(0)
    for name, term in terms_of(falling, batch).items():
        assert torch.equal(term.sum, evaluated[name].sum)


@every_system
def test_revealed_inputs_are_the_references(arch, task, batch, device):
    """In CTC, those of its best alignment. Nothing else changes; no padding is revealed."""
    model = model_of(task, arch, "1,1", device)
    (first, second), terms = inputs_of(model, batch)
    target = batch["target"]
    shown = model.decoder.embed(target)
    if "ctc" in arch:
        blank = 4 * model.blank.expand(len(target), 1, -1)  # sqrt(16), the width
        shown = torch.cat([shown, blank], dim=1)
    changed = (first != second).any(dim=2)
    assert changed.any()
    for row, places in enumerate(changed):
        found = second[row][places][:, None] == shown[row]
        assert found.all(dim=2).any(dim=1).all()
        length = int(target[row].ne(task.tgt_dict.pad()).sum())
        if "ctc" in arch:
            length = 3 * int(batch["net_input"]["src_tokens"][row].ne(task.src_dict.pad()).sum())
        else:
            assert torch.equal(second[row][places], shown[row][places])
        assert not places[length:].any() and not places[:length].all()
    assert all(term.sum.isfinite() for term in terms.values())
    sum(term.weight * term.sum for term in terms.values()).backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in model.parameters())


@pytest.mark.parametrize("arch", ["nart_tiny", "nart_crf_tiny", "nart_ctc_tiny"])
def test_only_wrong_positions_count(arch, task, batch, device):
    """A model that knows the batch by heart is shown nothing, or nearly so."""
    options = ("--glancing", "--glancing-ratio", "1,1", "--ctc-split", "2")
    model = build(task, arch, *options[: None if "ctc" in arch else 3]).to(device)
    model.glancing.ratio = 0.0
    overfit(task, model, batch, updates=200, lr=1e-2)
    model.glancing.ratio = 1.0
    first, second = inputs_of(model.train(), batch)[0]
    assert (first != second).any(dim=2).float().mean() < 0.05


@pytest.mark.parametrize("arch", ["nart_crf_tiny", "nart_dcrf_tiny"])
def test_crf_learns_the_hidden_tokens_given_the_others(arch, task, batch, device):
    """The likelihood of all tokens less that of the known ones, here by all paths through them."""
    model = build(task, arch, "--crf-candidates", "4", "--label-smoothing", "0").to(device)
    target = batch["target"][:2, :3].contiguous()
    mask = torch.ones_like(target, dtype=torch.bool)
    hidden = torch.tensor([[True, False, True], [False, True, True]], device=device)
    features, emissions = model.run_decoder(
        model.encode(batch["net_input"]["src_tokens"][:2]), mask
    )
    crf, states = model.crf, model.head.states(features)
    terms = model.head.loss_terms(features, emissions.clone(), target, mask, 0.0, hidden)
    expected = 0.0
    ids = top_candidates(emissions, 4, include=target)
    lattice = crf.lattice_of(ids, emissions.gather(2, ids), mask, states)
    for row in range(2):
        numerator, total = None, []
        for path in torch.cartesian_prod(*[torch.arange(4)] * 3):
            tokens = ids[row, torch.arange(3), path]
            if (tokens != target[row])[~hidden[row]].any():
                continue
            score = sum(lattice.emissions[row, i, path[i]] for i in range(3))
            score = score + sum(lattice.transitions[row, i, path[i], path[i + 1]] for i in (0, 1))
            total.append(score)
            numerator = score if torch.equal(tokens, target[row]) else numerator
        assert len(total) == 16
        expected = expected + torch.stack(total).logsumexp(0) - numerator
    torch.testing.assert_close(terms[0].sum, expected)
    assert terms[0].count == hidden.sum()


def test_ratio_falls_in_fairseq_train(data, tmp_path, monkeypatch):
    """Over its own updates; validation and the Python API reveal nothing."""
    ratios, reveal = [], Glancing.reveal

    def recording(self, *arguments, **options):
        ratios.append(self.ratio)
        return reveal(self, *arguments, **options)

    monkeypatch.setattr(Glancing, "reveal", recording)
    words = ["--arch", "nart_ctc_tiny", *SMALL, "--max-update", "5", "--glancing", "--eval-bleu"]
    checkpoint = fairseq_train(data, tmp_path, *words, "--glancing-ratio", "0.5,0.3")
    assert ratios == pytest.approx([0.5, 0.46, 0.42, 0.38, 0.34])
    hub.from_pretrained(checkpoint).translate(["a b"])
    assert len(ratios) == 5


def test_glancing_is_not_active_in_decoding(task, batch, device):
    source = batch["net_input"]["src_tokens"]
    ends = {"eos": task.tgt_dict.eos(), "pad": task.tgt_dict.pad()}
    plain, glancing = (model_of(task, "nart_ctc_tiny", x, device).eval() for x in (None, "1,1"))
    ours, theirs = (Engine(model, **ends)(source) for model in (glancing, plain))
    assert [h[0].tokens.tolist() for h in ours] == [h[0].tokens.tolist() for h in theirs]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--glancing", "--glancing-ratio", "0.5,1.5"], "at least 0 and at most 1, not 1.5"),
        (["--glancing", "--glancing-ratio=-0.1,0"], "at least 0 and at most 1, not -0.1"),
        (["--glancing", "--glancing-ratio", "0.5"], "must be START,END, such as 0.5,0.3, not 0.5"),
        (["--glancing-ratio", "0.5,0.1"], "--glancing-ratio 0.5,0.1 needs --glancing: add it"),
        (["--glancing"], "changes over the updates of the training: give --max-update"),
    ],
)
@pytest.mark.parametrize("arch", ["nart_tiny", "nart_ctc_tiny"])
def test_bad_ratios_are_refused(arch, words, message, task):
    with pytest.raises(UserError, match=message):
        build(task, arch, *words)


def test_refinement_refuses_glancing(task):
    with pytest.raises(UserError, match="--glancing has no effect on nart_refinement"):
        build(task, "nart_refinement_tiny", "--glancing", "--glancing-ratio", "0.5,0.5")

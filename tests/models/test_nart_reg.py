"""NAT-REG: its regularisers in training, and nothing of them afterwards."""

import pytest
import torch
from exported import export_model, weight_shapes
from toys import (
    SMALL,
    batch_of,
    binarise,
    build,
    fairseq_generate,
    fairseq_train,
    lines_of,
    load_task,
    overfit,
    write_text,
)

from fairseq_nart import hub
from fairseq_nart.criterions.nart import NartCriterion
from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.models._warm_start import warm_start
from fairseq_nart.models.nart import Nart

PLAIN = ("--decoder-input", "hard_uniform")
OFF = ("--similarity-weight", "0", "--reconstruction-weight", "0")


@pytest.fixture
def batch(task, device):
    return batch_of(task, device)


def terms_of(model, batch):
    """The loss terms by name."""
    terms = model(batch["net_input"]["src_tokens"], batch["target"])
    return {term.name: term for term in terms}


def translations(task, model, batch, **options):
    ends = {"eos": task.tgt_dict.eos(), "pad": task.tgt_dict.pad()}
    engine = Engine(model, **ends, options=model.Decoding(**options))
    return [h[0].tokens.tolist() for h in engine(batch["net_input"]["src_tokens"])]


def test_defaults_are_the_papers(task, batch, device):
    terms = terms_of(build(task, "nart_reg_tiny").to(device), batch)
    weights = {name: term.weight for name, term in terms.items()}
    assert weights == {
        "nar_loss": 1.0,
        "similarity": 2.0,
        "reconstruction_loss": 0.5,
        "length_loss": 1.0,
    }
    lengths = batch["target"].ne(task.tgt_dict.pad()).sum(dim=1)
    assert terms["similarity"].count == (lengths - 1).sum()
    source = batch["net_input"]["src_tokens"].ne(task.src_dict.pad())
    assert terms["reconstruction_loss"].count == source.sum()


def test_similarity_is_that_of_states_and_target_embeddings(task, batch, device):
    model, target = build(task, "nart_reg_tiny").to(device), batch["target"]
    mask = target.ne(task.tgt_dict.pad())
    states = model.features(model.encode(batch["net_input"]["src_tokens"]), mask)
    embeddings = model.encoder.embed_tokens(target)  # one dictionary: these are the output layer's
    h, e = (torch.nn.functional.normalize(x, dim=2) for x in (states, embeddings))
    alike, same = ((x[:, :-1] * x[:, 1:]).sum(dim=2) for x in (h, e))
    expected = (1 + alike.clamp(min=0) * (1 - same))[mask[:, 1:]].sum()
    torch.testing.assert_close(terms_of(model, batch)["similarity"].sum, expected)


def test_reconstruction_reads_only_states_and_previous_source_tokens(task, batch, device):
    model, target = build(task, "nart_reg_tiny").to(device), batch["target"]
    mask = target.ne(task.tgt_dict.pad())
    states = model.encode(batch["net_input"]["src_tokens"]).right_padded()
    features = model.features(states, mask)
    tokens = states.tokens

    def reconstruct(features, tokens):
        return model.reconstructed(model.reconstruction, features, mask, tokens, states.mask)

    logits = reconstruct(features, tokens)
    for t in range(tokens.size(1) - 1):
        other = tokens.clone()
        other[:, t] = torch.where(other[:, t] == 7, 8, 7)
        changed = (reconstruct(features, other) - logits).abs().amax(dim=2)
        real = states.mask[:, t + 1]
        assert changed[:, : t + 1].max() < 1e-5, "its own or an earlier prediction"
        assert not real.any() or changed[real, t + 1].min() > 1e-5
    assert (reconstruct(features + 1, tokens) - logits).abs().max() > 1e-3
    noisy = features.masked_fill(~mask[..., None], 1e3)
    torch.testing.assert_close(reconstruct(noisy, tokens)[states.mask], logits[states.mask])


def test_reconstruction_loss_does_not_depend_on_the_padding_side(task, batch, device):
    model = build(task, "nart_reg_tiny").to(device)
    loss = terms_of(model, batch)["reconstruction_loss"].sum
    states = model.encode(batch["net_input"]["src_tokens"]).right_padded()
    right = {**batch, "net_input": {"src_tokens": states.tokens}}
    assert not torch.equal(states.tokens, batch["net_input"]["src_tokens"])
    torch.testing.assert_close(terms_of(model, right)["reconstruction_loss"].sum, loss)
    alone = 0.0
    for row, target in zip(states.tokens, batch["target"], strict=True):
        one = row[row != task.src_dict.pad()][None], target[target != task.tgt_dict.pad()][None]
        alone += next(t.sum for t in model(*one) if t.name == "reconstruction_loss")
    torch.testing.assert_close(alone, loss)


def test_both_regularisers_train_the_states(task, batch, device):
    model = build(task, "nart_reg_tiny").to(device)
    for name in ("similarity", "reconstruction_loss"):
        model.zero_grad()
        terms_of(model, batch)[name].sum.backward()
        assert model.decoder.layers[0].fc1.weight.grad.any()
        assert (name == "similarity") == (model.reconstruction.layers[0].fc1.weight.grad is None)


def train_steps(task, model, batch, updates=3):
    """Losses of some updates with dropout, as fairseq seeds them, and the weights afterwards."""
    model, losses = model.train(), []
    optimizer, criterion = torch.optim.Adam(model.parameters(), 1e-2), NartCriterion(task)
    for number in range(updates):
        torch.manual_seed(number)
        model.set_num_updates(number)
        loss, tokens, _ = criterion(model, batch)
        optimizer.zero_grad()
        (loss / tokens).backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.eval().state_dict()


def test_weights_of_zero_give_nart(task, batch, device):
    """Bit for bit, with dropout."""
    words = (*PLAIN, "--dropout", "0.3")
    nart = build(task, "nart_tiny", *words).to(device)
    ours = build(task, "nart_reg_tiny", *words, *OFF).to(device)
    for one in (nart, ours):
        one.start = {name: weight.clone() for name, weight in one.state_dict().items()}
    assert all(torch.equal(ours.start[name], weight) for name, weight in nart.start.items())
    (mine, weights), (theirs, expected) = (train_steps(task, x, batch) for x in (ours, nart))
    assert mine == theirs and weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())


def test_same_seed_gives_the_weights_of_nart(task):
    nart, ours = build(task, "nart_tiny", *PLAIN), build(task, "nart_reg_tiny")
    new = {name.split(".")[0] for name in ours.state_dict().keys() - nart.state_dict().keys()}
    assert new == {"reconstruction"}
    weights = ours.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in nart.state_dict().items())
    assert "unused there: reconstruction" in warm_start(nart, weights, "reg.pt")


def test_weights_grow_during_the_warmup(task, batch, device):
    model = build(task, "nart_reg_tiny", "--regularization-warmup", "4").to(device).train()
    weights = []
    for number in (0, 1, 2, 4, 9):
        model.set_num_updates(number)
        terms = terms_of(model, batch)
        weights.append((terms["similarity"].weight, terms["reconstruction_loss"].weight))
    assert weights == [(0, 0), (0.5, 0.125), (1, 0.25), (2, 0.5), (2, 0.5)]
    model.set_num_updates(1)
    assert terms_of(model.eval(), batch)["similarity"].weight == 2, "validations are comparable"
    at_once = terms_of(build(task, "nart_reg_tiny").to(device).train(), batch)
    assert at_once["similarity"].weight == 2


def test_resumed_training_continues_the_warmup(data, tmp_path, task):
    """The checkpoint holds the whole model, and fairseq the number of updates."""
    words = ("--arch", "nart_reg_tiny", *SMALL, "--regularization-warmup", "8", "--lr", "1e-2")
    words += ("--disable-validation", "--no-epoch-checkpoints", "--dropout", "0.2")
    fairseq_train(data, tmp_path / "one", *words, "--max-update", "4")
    resumed = fairseq_train(data, tmp_path / "one", *words, "--max-update", "6")
    whole = fairseq_train(data, tmp_path / "two", *words, "--max-update", "6")
    ours, theirs = (torch.load(x, weights_only=False)["model"] for x in (resumed, whole))
    assert any(name.startswith("reconstruction.layers.") for name in ours)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, msg=name)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    words = ("--arch", "nart_reg_tiny", *SMALL, "--max-update", "3", "--lr", "1e-2", "--eval-bleu")
    return fairseq_train(data, tmp_path_factory.mktemp("reg"), *words)


def test_decoder_of_the_training_is_discarded_for_decoding(
    trained, data, task, capsys, monkeypatch
):
    """In Python and in fairseq-generate, with the translations of the whole model."""
    whole = build(task, "nart_reg_tiny", seed=5)
    whole.load_state_dict(torch.load(trained, weights_only=False)["model"])
    batch = batch_of(task, torch.device("cpu"), rows=17)
    expected = dict(zip(batch["id"].tolist(), translations(task, whole, batch), strict=True))
    assert whole.reconstruction is not None

    model = hub.from_pretrained(trained, data).model
    nart = build(task, "nart_tiny", *PLAIN)
    parts = [{name.split(".")[0] for name in one.state_dict()} for one in (model, nart)]
    assert parts[0] == parts[1]
    found = dict(zip(batch["id"].tolist(), translations(task, model, batch), strict=True))
    assert found == expected

    decode, used = Nart.decode, []
    monkeypatch.setattr(Nart, "decode", lambda *call: used.append(call[0]) or decode(*call))
    fairseq_generate(data, trained)
    assert {one.reconstruction for one in used} == {None}
    lines = lines_of(capsys.readouterr().out, "H")
    for number, tokens in expected.items():
        assert lines[number][0].split("\t")[1] == task.tgt_dict.string(tokens)


def test_exported_model_holds_no_weight_of_the_training(task, tmp_path):
    models = {"reg": build(task, "nart_reg_tiny"), "nart": build(task, "nart_tiny", *PLAIN)}
    reg, nart = (weight_shapes(export_model(tmp_path / x, task, one)) for x, one in models.items())
    assert reg == nart and (len(task.tgt_dict), 16) in reg


def test_two_dictionaries(tmp_path):
    """The source is reconstructed with the source's embeddings."""
    write_text(tmp_path, {"train": 100, "test": 9})
    task = load_task(binarise(tmp_path, tmp_path / "bin"))
    model = build(task, "nart_reg_tiny")
    batch = batch_of(task, torch.device("cpu"))
    assert model.reconstruction.output_projection.weight.size(0) == len(task.src_dict)
    assert len(task.src_dict) != len(task.tgt_dict)
    sum(term.weight * term.sum for term in terms_of(model, batch).values()).backward()
    assert all(x.grad is not None for x in model.parameters())


def test_model_overfits_and_reconstructs(task, batch, device):
    torch.manual_seed(0)
    model = build(task, "nart_reg_tiny", "--similarity-weight", "0.5").to(device)
    before = terms_of(model, batch)
    expected = overfit(task, model, batch, updates=150, lr=1e-2)
    after = terms_of(model, batch)
    assert translations(task, model, batch, length_candidates=1) == expected
    for name in ("similarity", "reconstruction_loss"):
        assert after[name].sum < before[name].sum
    assert after["reconstruction_loss"].sum / after["reconstruction_loss"].count < 0.5


def test_crf_beside_the_regularisers(task, batch, device):
    terms = terms_of(build(task, "nart_reg_tiny", "--output", "dcrf").to(device), batch)
    assert [*terms][:4] == ["crf_loss", "nar_loss", "similarity", "reconstruction_loss"]


def test_depth_of_the_reconstruction(task):
    words = ("--decoder-layers", "3")
    assert len(build(task, "nart_reg_tiny", *words).reconstruction.layers) == 3
    one = build(task, "nart_reg_tiny", *words, "--reconstruction-layers", "1")
    assert len(one.reconstruction.layers) == 1 and len(one.decoder.layers) == 3


@pytest.mark.parametrize(
    "words, message",
    [
        (("--similarity-weight", "-1"), "--similarity-weight must be at least 0"),
        (("--reconstruction-weight", "-1"), "--reconstruction-weight must be at least 0"),
        (("--reconstruction-layers", "0"), "--reconstruction-layers must be at least 1"),
        (("--regularization-warmup", "-1"), "--regularization-warmup must be at least 0"),
        (
            ("--reconstruction-weight", "0", "--reconstruction-layers", "1"),
            "--reconstruction-layers has no effect with --reconstruction-weight 0",
        ),
        ((*OFF, "--regularization-warmup", "5"), "no effect if both weights are 0"),
    ],
)
def test_options_out_of_range_or_without_effect_are_refused(words, message, task):
    with pytest.raises(UserError, match=message):
        build(task, "nart_reg_tiny", *words)

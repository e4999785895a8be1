"""Iterative refinement: inputs of a pass, losses and stopping."""

import pytest
import torch
from toys import batch_of, build, load_task, overfit

from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.system import Request
from fairseq_nart.models import nart_refinement
from fairseq_nart.models._warm_start import warm_start


@pytest.fixture
def batch(task, device):
    return batch_of(task, device, rows=6, split="valid")


def pair(batch):
    return batch["net_input"]["src_tokens"], batch["target"]


def engine(task, model, **options):
    ends = {"eos": task.tgt_dict.eos(), "pad": task.tgt_dict.pad()}
    return Engine(model, **ends, options=model.Decoding(**options))


def best_tokens(hypotheses):
    return [h[0].tokens.tolist() for h in hypotheses]


def passes_of(model):
    """Returns a list to which each refinement appends its inputs and its logits."""
    seen, refine = [], model.refine

    def spy(states, tokens, features, mask):
        refined = refine(states, tokens, features, mask)
        seen.append((tokens, features, model.refiner.output_projection(refined).detach()))
        return refined

    model.refine = spy
    return seen


def test_one_pass_equals_nart(task, batch, device):
    words = ("--decoder-input", "hard_uniform", "--length-predictor", "classifier")
    nart = build(task, "nart_tiny", *words, seed=3).to(device)
    one = ("--train-iterations", "1")
    refinement = build(task, "nart_refinement_tiny", *one, seed=4).to(device)
    assert refinement.cfg.decoder_input == "hard_uniform"
    warm_start(refinement, nart.state_dict(), "nart.pt")
    ours, theirs = (model.train()(*pair(batch)) for model in (refinement, nart))
    assert [term.name for term in ours] == ["nar_loss_1", "length_loss"]
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.sum, other.sum)
    sum(term.sum for term in ours).backward()
    assert all(x.grad is not None for x in refinement.parameters() if x.requires_grad)
    source = batch["net_input"]["src_tokens"]
    first = engine(task, refinement.eval(), length_candidates=3)(source)
    assert best_tokens(first) == best_tokens(engine(task, nart.eval(), length_candidates=3)(source))
    assert {h[0].iterations for h in first} == {1}
    with pytest.raises(ValueError, match="--refinement-iterations has no effect on this NartRefin"):
        engine(task, refinement, refinement_iterations=2)


def test_refinement_reads_previous_tokens_and_states(task, batch, device):
    model, (source, target) = build(task, "nart_refinement_tiny").to(device), pair(batch)
    states, mask = model.encode(source), target.ne(task.tgt_dict.pad())
    features, _ = model.run_decoder(states, mask)
    one = model.refine(states, target, features, mask)
    for tokens, other in ((torch.full_like(target, 9), features), (target, features + 1)):
        assert (model.refine(states, tokens, other, mask) - one).abs().max() > 1e-3


def test_refinement_reads_only_the_previous_output(task, batch, device):
    """Neither the reference nor earlier outputs."""
    model = build(task, "nart_refinement_tiny").to(device)
    seen = passes_of(model)
    source, target = pair(batch)
    terms = model(source, target)
    assert [t.name for t in terms] == [f"nar_loss_{n}" for n in (1, 2, 3, 4)] + ["length_loss"]
    _, first = model.run_decoder(model.encode(source), target.ne(model.pad))
    for (tokens, _, _), emissions in zip(seen, [first, *(x[2] for x in seen)]):
        assert torch.equal(tokens, emissions.argmax(dim=2))
    other = torch.where(target == task.tgt_dict.pad(), target, target.flip(1).clamp(min=4))
    model(source, other)
    for mine, theirs in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[2], theirs[2])


@pytest.mark.parametrize("probability, expected", [("1", 3), ("0", 0), ("0.5", None)])
def test_denoising_corrupts_references_in_training(
    probability, expected, task, batch, device, monkeypatch
):
    """The share of corrupted words decreases with each pass."""
    shares = []

    def spy(tokens, words, share, first_word, vocab_size):
        shares.append(share)
        assert (first_word, vocab_size) == (task.tgt_dict.nspecial, len(task.tgt_dict))
        assert torch.equal(tokens, batch["target"])
        assert torch.equal(words, tokens.ne(task.tgt_dict.pad()) & tokens.ne(task.tgt_dict.eos()))
        return torch.full_like(tokens, 7)

    monkeypatch.setattr(nart_refinement, "corrupt", spy)
    model = build(task, "nart_refinement_tiny", "--denoising-probability", probability).to(device)
    model(*pair(batch))
    assert shares == [], "not in validation"
    seen = passes_of(model.train())
    torch.manual_seed(0)
    for _ in range(1 if expected is not None else 40):
        model(*pair(batch))
    if expected is None:
        assert 40 < len(shares) < 80  # of 120
        return
    assert shares == pytest.approx([0.9, 0.5, 0.1][:expected])
    assert [bool((tokens == 7).all()) for tokens, _, _ in seen] == [expected == 3] * 3


def test_gradients_flow_only_through_hidden_states(task, batch, device):
    words = ("--train-iterations", "2", "--denoising-probability", "0")
    model = build(task, "nart_refinement_tiny", *words).to(device)
    weight = model.decoder.layers[0].fc1.weight
    second = model(*pair(batch))[1]
    second.sum.backward()
    assert weight.grad.abs().sum() > 0
    model.zero_grad()
    refine = model.refine
    model.refine = lambda states, tokens, features, mask: refine(
        states, tokens, features.detach(), mask
    )
    model(*pair(batch))[1].sum.backward()
    assert weight.grad is None or not weight.grad.any()


@pytest.mark.parametrize("rule", ["equality", "jaccard", "unchanged"])
@pytest.mark.parametrize("candidates", [1, 3])
def test_adaptive_equals_a_fixed_number_of_iterations(rule, candidates, task, batch, device):
    """Each row stops by itself, with the output of as many fixed iterations."""
    model = build(task, "nart_refinement_tiny", seed=6).to(device)
    states = model.encode(batch["net_input"]["src_tokens"])
    proposal = model.propose(states, model.Decoding(length_candidates=candidates))

    def decode(number, stop="none"):
        options = model.Decoding(refinement_iterations=number, refinement_stop=stop)
        return model.decode(Request(states, proposal, options))

    most = 12
    adaptive = decode(most, rule)
    numbers = adaptive.iterations.view(-1, candidates)
    assert numbers.min() < most and numbers.max() <= most, "the test needs a row that stops early"
    if rule == "unchanged":
        assert len(numbers.unique()) > 1
        assert candidates == 1 or any(len(row.unique()) > 1 for row in numbers)
    for number in numbers.unique().tolist():
        fixed, rows = decode(number), adaptive.iterations == number
        mask = adaptive.mask & rows[:, None]
        assert torch.equal(adaptive.tokens[mask], fixed.tokens[mask])
        torch.testing.assert_close(adaptive.log_probs[mask], fixed.log_probs[mask])
        assert (fixed.iterations == number).all()


def test_fixed_point_equals_more_iterations(task, batch, device):
    """A decoder with constant output stops as soon as the rule can compare passes."""
    model = build(task, "nart_refinement_tiny").to(device)
    refine = model.refine
    sizes = []

    def constant(states, tokens, features, mask):
        sizes.append(len(tokens))
        return refine(states, 0 * tokens, 0 * features, mask)

    model.refine = constant
    source = batch["net_input"]["src_tokens"]
    adaptive = engine(task, model, refinement_stop="equality")(source)
    assert len(sizes) <= 5 < 20
    assert {h[0].iterations for h in adaptive} <= {5, 6}
    assert sum(sizes) == sum(h[0].iterations - 1 for h in adaptive), "a stopped row was computed"
    assert best_tokens(adaptive) == best_tokens(
        engine(task, model, refinement_iterations=20)(source)
    )


def test_special_symbols_are_never_predicted(task, batch, device):
    model = build(task, "nart_refinement_tiny").to(device)
    specials = [task.tgt_dict.bos(), task.tgt_dict.pad()]
    bias = torch.zeros(len(task.tgt_dict), device=device)
    bias[specials] = 100
    model.decoder.output_projection.register_forward_hook(lambda *call: call[2] + bias)
    for tokens in best_tokens(
        engine(task, model, refinement_iterations=3)(batch["net_input"]["src_tokens"])
    ):
        assert not set(tokens) & set(specials)


def test_model_overfits_and_more_iterations_do_no_harm(task, batch, device):
    torch.manual_seed(0)
    model = build(task, "nart_refinement_tiny", "--train-iterations", "3").to(device)
    expected = overfit(task, model, batch, updates=150, lr=1e-2)
    source = batch["net_input"]["src_tokens"]
    for iterations in (3, 10):
        assert (
            best_tokens(engine(task, model, refinement_iterations=iterations)(source)) == expected
        )
    adaptive = engine(task, model, refinement_stop="jaccard")(source)
    assert best_tokens(adaptive) == expected and {h[0].iterations for h in adaptive} <= {5, 6}


def test_warm_start_fills_both_decoders(task):
    nart = build(task, "nart_tiny", seed=3)
    model = build(task, "nart_refinement_tiny", seed=4)
    report = warm_start(model, nart.state_dict(), "nart.pt")
    assert "unused there: source_map" in report and "refiner" not in report
    for name, weight in nart.decoder.state_dict().items():
        assert torch.equal(model.decoder.state_dict()[name], weight)
        assert torch.equal(model.refiner.state_dict()[name], weight)
    assert model.refiner.output_projection is model.decoder.output_projection
    other = build(task, "nart_refinement_tiny", seed=5)
    torch.nn.init.zeros_(other.refiner.layers[0].fc1.weight)
    warm_start(model, other.state_dict(), "other.pt")
    assert not model.refiner.layers[0].fc1.weight.any() and model.decoder.layers[0].fc1.weight.any()


def test_options_without_effect_are_refused(task, data):
    with pytest.raises(ValueError, match="--train-iterations 1 trains none"):
        words = ("--train-iterations", "1", "--denoising-probability", "0.9")
        build(task, "nart_refinement_tiny", *words)
    with pytest.raises(UserError, match="--refinement-iterations has no effect on Nart"):
        load_task(data, refinement_iterations=2).build_engine(build(task, "nart_tiny"))

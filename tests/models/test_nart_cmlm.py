"""Mask-predict: masks, loss and repeated predictions."""

import itertools

import pytest
import torch
from toys import batch_of, build, build_teacher, load_task, overfit

from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.system import Request
from fairseq_nart.layers.masking import lowest
from fairseq_nart.layers.states import Proposal
from fairseq_nart.models import nart_cmlm
from fairseq_nart.models._warm_start import warm_start


@pytest.fixture
def batch(task, device):
    return batch_of(task, device, rows=6, split="valid")


@pytest.fixture
def model(task, device):
    return build(task, "nart_cmlm_tiny", "--label-smoothing", "0").to(device)


def engine(task, model, **options):
    ends = {"eos": task.tgt_dict.eos(), "pad": task.tgt_dict.pad()}
    return Engine(model, **ends, options=model.Decoding(**options))


def passes_of(model, source, lengths, iterations):
    """Decodes targets of these lengths; returns (tokens, masked) of each pass, and the result."""
    seen, features = [], model.features

    def spy(states, tokens, masked, mask):
        seen.append((tokens.clone(), masked.clone()))
        return features(states, tokens, masked, mask)

    model.features = spy
    proposal = Proposal(lengths, torch.ones_like(lengths, dtype=torch.bool))
    options = model.Decoding(refinement_iterations=iterations)
    return seen, model.decode(Request(model.encode(source), proposal, options))


def test_loss_covers_only_masked_tokens(model, batch, device, monkeypatch):
    target = batch["target"]
    masked = lowest(torch.rand(target.shape, device=device), target.ne(1), target.ne(1).sum(1) // 2)
    monkeypatch.setattr(nart_cmlm, "random_positions", lambda mask, seed: masked)
    source = batch["net_input"]["src_tokens"]
    term = model(source, target)[0]
    states, mask = model.encode(source), target.ne(1)
    log_probs = model.emissions(states, target, masked, mask).log_softmax(dim=2)
    expected = -log_probs.gather(2, target[..., None]).squeeze(2)[masked].sum()
    torch.testing.assert_close(term.sum, expected)
    assert term.name == "masked_loss" and term.count == masked.sum()
    hidden = torch.where(masked, 9, target)
    torch.testing.assert_close(
        model.emissions(states, hidden, masked, mask), model.emissions(states, target, masked, mask)
    )


def test_unmasked_tokens_are_read(model, batch, device):
    target, states = batch["target"], model.encode(batch["net_input"]["src_tokens"])
    mask = target.ne(1)
    masked = mask & (torch.arange(target.size(1), device=device) == 0)
    other = torch.where(masked | ~mask, target, 9)
    one, two = (model.emissions(states, tokens, masked, mask)[:, 0] for tokens in (target, other))
    assert ((one - two).abs().amax(dim=1) > 1e-3).all()


def test_validation_masks_are_fixed(model, batch):
    pair = batch["net_input"]["src_tokens"], batch["target"]
    assert model(*pair)[0].sum == model(*pair)[0].sum
    model.train()
    assert len({model(*pair)[0].sum.item() for _ in range(5)}) > 1


def test_label_smoothing_is_applied(task, model, batch, device):
    smooth = build(task, "nart_cmlm_tiny", "--label-smoothing", "0.3").to(device)
    pair = batch["net_input"]["src_tokens"], batch["target"]
    assert model(*pair)[0].sum != smooth(*pair)[0].sum


def test_one_iteration_predicts_all_tokens(model, batch, device):
    source = batch["net_input"]["src_tokens"]
    lengths = torch.tensor([[3], [5], [4], [1], [6], [2]], device=device)
    seen, decoded = passes_of(model, source, lengths, 1)
    ((_, masked),) = seen
    assert torch.equal(masked, decoded.mask) and decoded.mask.sum(1).tolist() == [3, 5, 4, 1, 6, 2]
    logits = model.forbid(model.emissions(model.encode(source), 0 * masked.long(), masked, masked))
    best, tokens = logits.log_softmax(dim=2).max(dim=2)
    assert torch.equal(decoded.tokens[masked], tokens[masked])
    torch.testing.assert_close(decoded.log_probs[masked], best[masked])


@pytest.mark.parametrize(
    "length, iterations, expected",
    [(5, 4, [5, 3, 2, 1]), (7, 3, [7, 4, 2]), (6, 6, [6, 5, 4, 3, 2, 1]), (2, 4, [2, 1, 1, 0])],
)
def test_number_of_masked_tokens_per_iteration(length, iterations, expected, model, batch, device):
    """floor(T (I - t) / I), also beside a longer target."""
    source = batch["net_input"]["src_tokens"][:2]
    seen, _ = passes_of(model, source, torch.tensor([[length], [9]], device=device), iterations)
    assert [int(masked[0].sum()) for _, masked in seen] == expected


def test_least_certain_tokens_are_predicted_again(model, batch, device):
    source = batch["net_input"]["src_tokens"]
    lengths = torch.full((len(source), 1), 7, device=device)
    seen, decoded = passes_of(model, source, lengths, 7)
    for (before, was), (after, _) in itertools.pairwise(seen):
        assert torch.equal(before[~was], after[~was]), "unmasked tokens must not change"
    first = model.forbid(model.emissions(model.encode(source), *seen[0], decoded.mask))
    surest = first.log_softmax(dim=2).max(dim=2).values.argmax(dim=1)
    assert torch.equal((~seen[1][1]).int().argmax(dim=1), surest)
    assert decoded.iterations == 7


def test_special_symbols_are_never_predicted(task, model, batch, device):
    specials = [task.tgt_dict.bos(), task.tgt_dict.pad()]
    bias = torch.zeros(len(task.tgt_dict), device=device)
    bias[specials] = 100
    model.decoder.output_projection.register_forward_hook(lambda *call: call[2] + bias)
    for hypotheses in engine(task, model, refinement_iterations=3)(
        batch["net_input"]["src_tokens"]
    ):
        assert not set(hypotheses[0].tokens.tolist()) & set(specials)


def test_model_overfits_and_more_iterations_do_no_harm(task, batch, device):
    torch.manual_seed(0)
    words = ("--embed-dim", "32", "--encoder-layers", "1", "--decoder-layers", "1")
    model = build(task, "nart_cmlm_tiny", *words).to(device)
    expected = overfit(task, model, batch, updates=250, lr=5e-3)
    source = batch["net_input"]["src_tokens"]
    right = []
    for iterations in (1, 4, 10):
        best = engine(task, model, refinement_iterations=iterations)(source)
        right.append(sum(h[0].tokens.tolist() == e for h, e in zip(best, expected)))
    assert right == sorted(right) and right[-1] == len(expected), right


def test_warm_start_from_a_teachers_decoder(task):
    teacher = build_teacher(task, "transformer")
    model = build(task, "nart_cmlm_tiny")
    report = warm_start(model, teacher.state_dict(), "teacher.pt")
    assert "new here: lengths.projection, masked;" in report
    theirs = teacher.decoder.layers[1].encoder_attn.q_proj.weight
    assert torch.equal(model.decoder.layers[1].encoder_attn.q_proj.weight, theirs)


def test_stopping_rule_is_refused(data, model):
    with pytest.raises(UserError, match="--refinement-stop has no effect on NartCmlm"):
        load_task(data, refinement_stop="equality").build_engine(model)

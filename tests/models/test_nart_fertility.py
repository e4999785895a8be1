"""NAT with fertilities: what it learns from and proposes, noisy parallel decoding, fine-tuning."""

import dataclasses
import shutil

import pytest
import torch
from fairseq.sequence_scorer import SequenceScorer
from toys import (
    SMALL,
    TEACHERS,
    batch_of,
    build,
    build_teacher,
    fairseq_generate,
    fairseq_train,
    lines_of,
    load_task,
)

from fairseq_nart.cli import main
from fairseq_nart.criterions.nart import NartCriterion
from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.system import Request
from fairseq_nart.layers import fertility
from fairseq_nart.models import nart_fertility
from fairseq_nart.teacher.rescoring import TeacherRescorer

EOS, PAD = 2, 1


@pytest.fixture
def batch(task, device):
    """Sentences, their targets and fertilities: one each, what is over to the first token."""
    sample = batch_of(task, device, rows=6)
    real = sample["net_input"]["src_tokens"].ne(PAD)
    over = sample["target"].ne(PAD).sum(dim=1) - real.sum(dim=1)
    fertilities = real.long()
    for row, more in enumerate(over.tolist()):
        places = real[row].nonzero().flatten()
        if more >= 0:
            fertilities[row, places[0]] += more
        else:
            fertilities[row, places[:-more]] = 0
    return {**sample, "side_inputs": {"fertilities": fertilities}}


def arguments(batch):
    side = batch["side_inputs"]
    return batch["net_input"]["src_tokens"], batch["target"], side["fertilities"]


def engine(model, rescorer=None, **options):
    return Engine(model, eos=EOS, pad=PAD, options=model.Decoding(**options), rescorer=rescorer)


def terms_of(model, batch):
    return {term.name: term for term in model(*arguments(batch))}


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def test_learns_by_heart(task, batch, device):
    """Fertilities and tokens, through the criterion that gets them by the batch."""
    model = build(task, "nart_fertility_tiny").to(device).train()
    assert model.decoder.mask_self and model.decoder.layers[0].positional_attn is not None
    optimizer, criterion = torch.optim.Adam(model.parameters(), 1e-2), NartCriterion(task)
    for _ in range(150):
        loss, tokens, _ = criterion(model, batch)
        optimizer.zero_grad()
        (loss / tokens).backward()
        optimizer.step()
    source, target, fertilities = arguments(batch)
    expected = [row[row != PAD].tolist() for row in target.cpu()]
    for way in ("argmax", "average"):
        said = engine(model.eval(), fertility_decoding=way)(source)
        assert [h[0].tokens.tolist() for h in said] == expected
        proposal = model.propose(model.encode(source), model.Decoding(fertility_decoding=way))
        assert torch.equal(proposal.fertilities[:, 0], fertilities)
        assert proposal.lengths[:, 0].tolist() == [len(tokens) for tokens in expected]


def test_specials_are_never_said(task, batch, device):
    model, specials = build(task, "nart_fertility_tiny").to(device), [PAD, task.tgt_dict.bos()]
    bias = torch.zeros(len(task.tgt_dict), device=device)
    bias[specials] = 100
    model.decoder.output_projection.register_forward_hook(lambda *call: call[2] + bias)
    for hypotheses in engine(model)(batch["net_input"]["src_tokens"]):
        assert not set(hypotheses[0].tokens.tolist()) & set(specials)


def test_the_first_candidate_is_what_its_name_says(task, batch, device):
    model = build(task, "nart_fertility_tiny").to(device)
    head = model.fertility.projection  # 0, 3 or 4, with chances of 0.4, 0.3 and 0.3
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-1e4)
        head.bias[[0, 3, 4]] = torch.tensor([0.4, 0.3, 0.3], device=device).log()
    states = model.encode(batch["net_input"]["src_tokens"])

    def lengths(way):
        return model.propose(states, model.Decoding(fertility_decoding=way)).lengths[:, 0]

    assert (lengths("argmax") == 1).all()  # nothing is copied but what must be
    assert torch.equal(lengths("average"), 2 * states.lengths)


def test_candidates_are_as_long_as_their_fertilities(task, batch, device):
    model = build(task, "nart_fertility_tiny").to(device)
    states, options = model.encode(batch["net_input"]["src_tokens"]), model.Decoding()
    options.fertility_samples = 6
    proposal = model.propose(states, options)
    assert proposal.fertilities.shape == (6, 6, states.mask.size(1))
    assert torch.equal(proposal.fertilities.sum(dim=2), proposal.lengths)
    assert (proposal.lengths <= 2 * states.lengths[:, None]).all()
    assert not proposal.fertilities.masked_select(~states.mask[:, None]).any()
    decoded = model.decode(Request(states, proposal, options))
    assert torch.equal(decoded.mask.sum(dim=1).view_as(proposal.lengths), proposal.lengths)


def test_more_samples_are_never_worse_to_the_teacher(task, batch, device):
    """The candidates of few samples are among those of many, and the choice is the best of all."""
    model = build(task, "nart_fertility_tiny").to(device)
    teacher = build_teacher(task, "transformer").to(device)
    rescorer = TeacherRescorer(teacher, EOS, "mean", 0.0)
    source, before, texts = batch["net_input"]["src_tokens"], None, None
    for samples in (1, 3, 8):
        found = engine(model, rescorer, fertility_samples=samples)(source)
        best = torch.tensor([hypotheses[0].score for hypotheses in found])
        said = [{tuple(h.tokens.tolist()) for h in hypotheses} for hypotheses in found]
        if before is not None:
            assert (best >= before - 1e-5).all()
            assert all(few <= many for few, many in zip(texts, said))
        before, texts = best, said
    assert all(len(hypotheses) > 3 for hypotheses in found)
    assert len({len(h.tokens) for h in found[0]}) > 1
    # The first is the best by fairseq's own scorer too.
    longest = max(len(h.tokens) for h in found[0])
    target = torch.full((len(found[0]), longest), PAD)
    for row, hypothesis in enumerate(found[0]):
        target[row, : len(hypothesis.tokens)] = hypothesis.tokens
    target = target.to(device)
    previous = torch.cat([torch.full_like(target[:, :1], EOS), target[:, :-1]], dim=1)
    one = source[:1].repeat(len(target), 1)
    lengths = one.ne(PAD).sum(dim=1)
    net_input = {"src_tokens": one, "src_lengths": lengths, "prev_output_tokens": previous}
    theirs = SequenceScorer(task.tgt_dict).generate(
        [teacher], {"net_input": net_input, "target": target}
    )
    scores = [hypothesis[0]["score"].item() for hypothesis in theirs]
    assert scores == pytest.approx([h.score for h in found[0]], abs=1e-4)


@pytest.fixture
def student(task, device):
    """In fine-tuning, by a random teacher."""
    model = build(task, "nart_fertility_tiny").to(device)
    model.cfg = dataclasses.replace(model.cfg, finetune_weight=0.4)
    model.teacher = TeacherRescorer(build_teacher(task, "transformer"), EOS, "mean", 0.0)
    return model.train()


def test_terms_of_fine_tuning(task, student, batch):
    terms = terms_of(student, batch)
    weights = {name: pytest.approx(term.weight) for name, term in terms.items()}
    assert weights == {"nar_loss": 0.6, "fertility_loss": 0.6, "rkl_loss": 0.4, "reinforce": 0.4}
    assert {n: t.weight for n, t in terms_of(student.eval(), batch).items()} == {
        "nar_loss": 1.0,
        "fertility_loss": 1.0,
    }
    assert not any("teacher" in name for name in student.state_dict())
    assert not any("teacher" in name for name, _ in student.named_modules())


def test_no_term_disturbs_another(student, batch):
    """The sum's gradient is the sum of the terms' gradients: none overwrites shared emissions."""
    parts = []
    for name in ("all", "nar_loss", "fertility_loss", "rkl_loss", "reinforce"):
        torch.manual_seed(5)  # the same draws
        terms = terms_of(student, batch)
        loss = sum(t.sum for t in terms.values()) if name == "all" else terms[name].sum
        parts.append(gradients(student, loss))
    together, *alone = parts
    for name, gradient in together.items():
        total = sum(part[name] for part in alone if name in part)
        torch.testing.assert_close(gradient, total, rtol=1e-3, atol=1e-3)


def test_who_learns_from_what(student, batch):
    """REINFORCE moves the fertilities and not the decoder; the teacher's words the decoder."""
    torch.manual_seed(5)
    terms = terms_of(student, batch)
    teacher = student.teacher.teacher
    moved = gradients(student, terms["reinforce"].sum)
    assert "fertility.projection.weight" in moved
    assert not any(name.startswith("decoder.") for name in moved)
    moved = gradients(student, terms_of(student, batch)["rkl_loss"].sum)
    assert any(name.startswith("decoder.layers.1.") for name in moved)
    assert not any(name.startswith("fertility.") for name in moved)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_words_of_the_teacher_are_those_of_its_own_distribution(student, batch):
    """L_RKL of the gold fertilities, from the definition."""
    source, target, fertilities = arguments(batch)
    student.train()
    found = terms_of(student, batch)["rkl_loss"].sum
    teacher, mask = student.teacher.teacher, target.ne(PAD)
    states = student.encode(source)
    probs = student.emissions(states, fertilities[:, None], mask).softmax(dim=2)
    said = probs.argmax(dim=2)
    expected = 0.0
    for row in range(len(source)):
        real = source[row][source[row] != PAD][None]
        length = int(mask[row].sum())
        prefix = torch.tensor([[EOS, *said[row, : length - 1].tolist()]], device=source.device)
        output = teacher(real, torch.tensor([real.size(1)]), prefix)
        theirs = teacher.get_normalized_probs(output, log_probs=True)[0]
        expected = expected - (probs[row, :length] * theirs).sum()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_draws_are_compared_with_the_average(student, batch, monkeypatch):
    """What is rewarded is the likelihood of the draw, by what its tokens cost on average, as often
    as the reference has tokens; the baseline is what the average costs; each sentence by its own
    source."""
    seen, drawn = [], []
    draw = torch.multinomial

    def spy(likelihood, costs, baseline):
        seen.append((likelihood, costs, baseline))
        return likelihood.sum()

    def drawing(*arguments):
        drawn.append(draw(*arguments))
        return drawn[-1]

    monkeypatch.setattr(nart_fertility, "reinforce", spy)
    monkeypatch.setattr(torch, "multinomial", drawing)
    terms_of(student, batch)
    (source, target, _), expected = arguments(batch), []
    (chosen,) = drawn
    lengths = target.ne(PAD).sum(dim=1)
    for row, fertilities, length in zip(source, chosen.view(source.shape), lengths, strict=True):
        one, own = row[row != PAD][None], fertilities[row != PAD][None]
        states = student.encode(one)
        logits, costs = student.fertility(states), []
        for several in (own, fertility.average(logits)):
            proposal = student._proposal(states, several[:, None])
            mask = torch.ones(1, int(proposal.lengths), dtype=torch.bool, device=one.device)
            words = student.emissions(states, proposal.fertilities, mask)
            encoded = student.teacher.encode(one, states.lengths)
            rows = torch.zeros(1, dtype=torch.long, device=one.device)
            cost = student._costs(student.teacher, encoded, rows, words, mask)
            costs.append(cost[0] * length / mask.sum())
        likelihood = logits.log_softmax(dim=2).gather(2, own[..., None]).sum()
        expected.append(torch.stack([likelihood, *costs]))
    found = torch.stack(seen[0], dim=1)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-3)
    assert not torch.allclose(found[:, 1], found[:, 2])


def test_bf16_is_close_to_fp32(student, batch):
    """The teacher follows. Draws differ, so REINFORCE has but to be finite."""
    high = {name: term.sum.item() for name, term in terms_of(student, batch).items()}
    for name, term in terms_of(student.bfloat16(), batch).items():
        assert term.sum.dtype == torch.float32 and term.sum.isfinite()
        if name != "reinforce":
            assert term.sum.item() == pytest.approx(high[name], rel=3e-2)


def test_lengths_mean_nothing_to_fertilities(task, data):
    with pytest.raises(UserError, match="--length-candidates has no effect on NartFertility"):
        load_task(data, length_candidates=3).build_engine(build(task, "nart_fertility_tiny"))


def test_weight_without_a_teacher(task):
    with pytest.raises(ValueError, match="needs a teacher: give --finetune-with, or leave it out"):
        build(task, "nart_fertility_tiny", "--finetune-weight", "0.5")


def test_by_fairseqs_commands(data, teacher, tmp_path, capsys):
    """Align, train with BLEU on valid, fine-tune, generate; no checkpoint holds a teacher."""
    data = shutil.copytree(data, tmp_path / "bin")
    assert main(["align", str(data), "--teacher", str(teacher)]) == 0
    words = ["--arch", "nart_fertility_tiny", *SMALL, "--lr", "1e-2", "--eval-bleu"]
    first = fairseq_train(data, tmp_path / "first", *words, "--max-update", "3")
    words += ["--init-from", str(first), "--finetune-with", str(teacher), "--max-update", "2"]
    second = fairseq_train(data, tmp_path / "second", *words)
    state = torch.load(second, weights_only=True)["model"]
    assert state.keys() == torch.load(first, weights_only=True)["model"].keys()
    with pytest.raises(
        ValueError, match=r"type --max-source-positions 40 --max-target-positions 40"
    ):
        short = ["--max-source-positions", "40", "--max-target-positions", "40"]
        reader = fairseq_train(
            data, tmp_path / "short", *TEACHERS["transformer"], *short, "--max-update", "1"
        )
        fairseq_train(data, tmp_path / "third", *words, "--finetune-with", str(reader))
    capsys.readouterr()
    for file in data.glob("*fertilities*"):
        file.unlink()  # to decode needs none, nor the teacher of the training
    options = ["--fertility-samples", "4", "--rescore-with", str(teacher), "--nbest", "4"]
    fairseq_generate(data, second, *options)
    found = lines_of(capsys.readouterr().out, "H")
    assert len(found) == 17 and max(map(len, found.values())) > 1

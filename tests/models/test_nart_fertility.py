"""NAT with fertilities: training, proposals, noisy parallel decoding and fine-tuning."""

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
from fairseq_nart.layers.transformer import no_self_mask
from fairseq_nart.models import nart_fertility
from fairseq_nart.teacher.rescoring import TeacherRescorer

EOS, PAD = 2, 1


@pytest.fixture
def batch(task, device):
    """Sentences, targets and fertilities: one per token, and any surplus on the first token."""
    sample = batch_of(task, device, rows=6)
    real = sample["net_input"]["src_tokens"].ne(PAD)
    surplus = sample["target"].ne(PAD).sum(dim=1) - real.sum(dim=1)
    fertilities = real.long()
    for row, more in enumerate(surplus.tolist()):
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


def test_model_overfits(task, batch, device):
    """On fertilities and tokens, through the criterion, which reads both from the batch."""
    model = build(task, "nart_fertility_tiny").to(device).train()
    assert model.decoder.attention_mask is no_self_mask
    assert model.decoder.layers[0].positional_attn is not None
    optimizer, criterion = torch.optim.Adam(model.parameters(), 1e-2), NartCriterion(task)
    for _ in range(150):
        loss, tokens, _ = criterion(model, batch)
        optimizer.zero_grad()
        (loss / tokens).backward()
        optimizer.step()
    source, target, fertilities = arguments(batch)
    expected = [row[row != PAD].tolist() for row in target.cpu()]
    for method in ("argmax", "average"):
        hypotheses = engine(model.eval(), fertility_decoding=method)(source)
        assert [h[0].tokens.tolist() for h in hypotheses] == expected
        proposal = model.propose(model.encode(source), model.Decoding(fertility_decoding=method))
        assert torch.equal(proposal.fertilities[:, 0], fertilities)
        assert proposal.lengths[:, 0].tolist() == [len(tokens) for tokens in expected]


def test_special_symbols_are_never_predicted(task, batch, device):
    model, specials = build(task, "nart_fertility_tiny").to(device), [PAD, task.tgt_dict.bos()]
    bias = torch.zeros(len(task.tgt_dict), device=device)
    bias[specials] = 100
    model.decoder.output_projection.register_forward_hook(lambda *call: call[2] + bias)
    for hypotheses in engine(model)(batch["net_input"]["src_tokens"]):
        assert not set(hypotheses[0].tokens.tolist()) & set(specials)


def test_first_candidate_follows_the_decoding_method(task, batch, device):
    model = build(task, "nart_fertility_tiny").to(device)
    head = model.fertility.projection  # 0, 3 or 4, with probabilities of 0.4, 0.3 and 0.3
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-1e4)
        head.bias[[0, 3, 4]] = torch.tensor([0.4, 0.3, 0.3], device=device).log()
    states = model.encode(batch["net_input"]["src_tokens"])

    def lengths(method):
        return model.propose(states, model.Decoding(fertility_decoding=method)).lengths[:, 0]

    assert (lengths("argmax") == 1).all()  # a target has at least one token
    assert torch.equal(lengths("average"), 2 * states.lengths)


def test_candidate_lengths_are_sums_of_fertilities(task, batch, device):
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


def test_more_samples_never_lower_the_teachers_score(task, batch, device):
    """The candidates of few samples are among those of many, and the best of all is chosen."""
    model = build(task, "nart_fertility_tiny").to(device)
    teacher = build_teacher(task, "transformer").to(device)
    rescorer = TeacherRescorer(teacher, EOS, "mean", 0.0)
    source, before, texts = batch["net_input"]["src_tokens"], None, None
    for samples in (1, 3, 8):
        results = engine(model, rescorer, fertility_samples=samples)(source)
        best = torch.tensor([hypotheses[0].score for hypotheses in results])
        outputs = [{tuple(h.tokens.tolist()) for h in hypotheses} for hypotheses in results]
        if before is not None:
            assert (best >= before - 1e-5).all()
            assert all(few <= many for few, many in zip(texts, outputs))
        before, texts = best, outputs
    assert all(len(hypotheses) > 3 for hypotheses in results)
    assert len({len(h.tokens) for h in results[0]}) > 1
    # The first is the best by fairseq's own scorer too.
    longest = max(len(h.tokens) for h in results[0])
    target = torch.full((len(results[0]), longest), PAD)
    for row, hypothesis in enumerate(results[0]):
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
    assert scores == pytest.approx([h.score for h in results[0]], abs=1e-4)


@pytest.fixture
def student(task, device):
    """A model in fine-tuning with a random teacher."""
    model = build(task, "nart_fertility_tiny").to(device)
    model.cfg = dataclasses.replace(model.cfg, finetune_weight=0.4)
    model.teacher = TeacherRescorer(build_teacher(task, "transformer"), EOS, "mean", 0.0)
    return model.train()


def test_terms_of_finetuning(task, student, batch):
    terms = terms_of(student, batch)
    weights = {name: pytest.approx(term.weight) for name, term in terms.items()}
    assert weights == {"nar_loss": 0.6, "fertility_loss": 0.6, "rkl_loss": 0.4, "reinforce": 0.4}
    assert {n: t.weight for n, t in terms_of(student.eval(), batch).items()} == {
        "nar_loss": 1.0,
        "fertility_loss": 1.0,
    }
    assert not any("teacher" in name for name in student.state_dict())
    assert not any("teacher" in name for name, _ in student.named_modules())


def test_gradient_is_the_sum_of_the_terms_gradients(student, batch):
    """No term overwrites emissions that another one reads."""
    parts = []
    for name in ("all", "nar_loss", "fertility_loss", "rkl_loss", "reinforce"):
        torch.manual_seed(5)  # the same samples
        terms = terms_of(student, batch)
        loss = sum(t.sum for t in terms.values()) if name == "all" else terms[name].sum
        parts.append(gradients(student, loss))
    together, *alone = parts
    for name, gradient in together.items():
        total = sum(part[name] for part in alone if name in part)
        torch.testing.assert_close(gradient, total, rtol=1e-3, atol=1e-3)


def test_terms_train_the_right_parameters(student, batch):
    """REINFORCE trains the fertilities and not the decoder; reverse KL trains the decoder."""
    torch.manual_seed(5)
    terms = terms_of(student, batch)
    teacher = student.teacher.teacher
    trained = gradients(student, terms["reinforce"].sum)
    assert "fertility.projection.weight" in trained
    assert not any(name.startswith("decoder.") for name in trained)
    trained = gradients(student, terms_of(student, batch)["rkl_loss"].sum)
    assert any(name.startswith("decoder.layers.1.") for name in trained)
    assert not any(name.startswith("fertility.") for name in trained)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_reverse_kl_equals_its_definition(student, batch):
    """With the fertilities of the data."""
    source, target, fertilities = arguments(batch)
    student.train()
    actual = terms_of(student, batch)["rkl_loss"].sum
    teacher, mask = student.teacher.teacher, target.ne(PAD)
    states = student.encode(source)
    probs = student.emissions(states, fertilities[:, None], mask).softmax(dim=2)
    predicted = probs.argmax(dim=2)
    expected = 0.0
    for row in range(len(source)):
        real = source[row][source[row] != PAD][None]
        length = int(mask[row].sum())
        prefix = torch.tensor([[EOS, *predicted[row, : length - 1].tolist()]], device=source.device)
        output = teacher(real, torch.tensor([real.size(1)]), prefix)
        theirs = teacher.get_normalized_probs(output, log_probs=True)[0]
        expected = expected - (probs[row, :length] * theirs).sum()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)


def test_reinforce_arguments_equal_their_definition(student, batch, monkeypatch):
    """The likelihood of the sample, the mean cost of its tokens times the reference's length,
    and, as the baseline, the cost of the average fertilities; each sentence with its own source.
    """
    seen, samples = [], []
    multinomial = torch.multinomial

    def spy(likelihood, costs, baseline):
        seen.append((likelihood, costs, baseline))
        return likelihood.sum()

    def recording(*arguments):
        samples.append(multinomial(*arguments))
        return samples[-1]

    monkeypatch.setattr(nart_fertility, "reinforce", spy)
    monkeypatch.setattr(torch, "multinomial", recording)
    terms_of(student, batch)
    (source, target, _), expected = arguments(batch), []
    (chosen,) = samples
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
    actual = torch.stack(seen[0], dim=1)
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-4, atol=1e-3)
    assert not torch.allclose(actual[:, 1], actual[:, 2])


def test_bf16_is_close_to_fp32(student, batch):
    """With the teacher. The samples differ, so REINFORCE only has to be finite."""
    high = {name: term.sum.item() for name, term in terms_of(student, batch).items()}
    for name, term in terms_of(student.bfloat16(), batch).items():
        assert term.sum.dtype == torch.float32 and term.sum.isfinite()
        if name != "reinforce":
            assert term.sum.item() == pytest.approx(high[name], rel=3e-2)


def test_length_candidates_are_refused(task, data):
    with pytest.raises(UserError, match="--length-candidates has no effect on NartFertility"):
        load_task(data, length_candidates=3).build_engine(build(task, "nart_fertility_tiny"))


def test_finetuning_weight_without_teacher_is_refused(task):
    with pytest.raises(ValueError, match="needs a teacher: give --finetune-with, or leave it out"):
        build(task, "nart_fertility_tiny", "--finetune-weight", "0.5")


def test_fairseq_commands_train_and_generate(data, teacher, tmp_path, capsys):
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
        file.unlink()  # decoding needs neither them nor the teacher
    options = ["--fertility-samples", "4", "--rescore-with", str(teacher), "--nbest", "4"]
    fairseq_generate(data, second, *options)
    lines = lines_of(capsys.readouterr().out, "H")
    assert len(lines) == 17 and max(map(len, lines.values())) > 1

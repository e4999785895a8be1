"""NART-CTC: possible outputs, training, and the candidates of its beam."""

import pytest
import torch
from toys import batch_of, build, build_teacher, load_task, overfit

from fairseq_nart.criterions.nart import NartCriterion
from fairseq_nart.generation import passes
from fairseq_nart.generation.engine import Engine
from fairseq_nart.teacher.rescoring import TeacherRescorer


@pytest.fixture
def batch(task, device):
    return batch_of(task, device, rows=6, split="valid")


def engine(task, model, beam):
    ends = {"eos": task.tgt_dict.eos(), "pad": task.tgt_dict.pad()}
    return Engine(model, **ends, options=model.Decoding(ctc_beam=beam))


@pytest.mark.parametrize("likely_blank", [False, True])
@pytest.mark.parametrize("beam", [1, 4])
def test_special_symbols_and_blanks_are_never_output(beam, likely_blank, task, batch, device):
    """Even if they are probable. No output is longer than k times its source."""
    model = build(task, "nart_ctc_tiny", "--ctc-split", "2").to(device)
    specials = [task.tgt_dict.bos(), task.tgt_dict.pad(), task.tgt_dict.eos()]
    source = batch["net_input"]["src_tokens"]
    frames = model.frames

    def biased(states):
        logits, blank, mask = frames(states)
        logits[..., specials] = 100
        return logits, blank + (5 if likely_blank else -100), mask

    model.frames = biased
    for sentence, hypotheses in enumerate(engine(task, model, beam)(source)):
        longest = 2 * int(source[sentence].ne(task.src_dict.pad()).sum())
        for hypothesis in hypotheses:
            *words, end = hypothesis.tokens.tolist()
            assert end == task.tgt_dict.eos() and not set(words) & set(specials)
            assert max(words, default=0) < len(task.tgt_dict), "the output contains a blank"
            assert len(words) <= longest


def test_beam_candidates_are_ranked_by_probability(task, batch, device):
    model = build(task, "nart_ctc_tiny").to(device)
    for hypotheses in engine(task, model, 5)(batch["net_input"]["src_tokens"]):
        assert len(hypotheses) > 1
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for h in hypotheses:
            assert h.score == pytest.approx(h.token_scores.sum().item(), rel=1e-4)


def test_empty_output_has_its_probability(task, batch, device):
    """It is a candidate if the blank is probable, but need not be the best one."""
    model = build(task, "nart_ctc_tiny", "--ctc-split", "2").to(device)
    source, frames, expected = batch["net_input"]["src_tokens"][:, -3:], model.frames, {}

    def likely_blanks(states):
        logits, blank, mask = frames(states)
        logits = model.forbid(logits)
        logits[..., 5] += 8.0  # one word at any frame: many paths, each a little less probable
        blank = logits.logsumexp(dim=2) + 0.1  # a little more probable than all others together
        expected["blanks"] = -torch.nn.functional.softplus(-(blank - logits.logsumexp(dim=2)))
        expected["empty"] = expected["blanks"].masked_fill(~mask, 0.0).sum(dim=1)
        return logits, blank, mask

    model.frames = likely_blanks
    (greedy, *_), several = (engine(task, model, n)(source) for n in (1, 100))
    assert greedy[0].tokens.tolist() == [task.tgt_dict.eos()]
    assert greedy[0].score == pytest.approx(expected["empty"][0].item(), rel=1e-3)
    for sentence, hypotheses in enumerate(several):
        scores = {len(h.tokens): h.score for h in reversed(hypotheses)}
        assert scores[1] == pytest.approx(expected["empty"][sentence].item(), rel=1e-3)
        assert len(hypotheses[0].tokens) > 1


def test_teacher_reads_no_more_than_the_outputs(task, batch, device, monkeypatch):
    """There are three times as many frames as source tokens, but few words."""
    widths, source = [], batch["net_input"]["src_tokens"]
    of_a_sentence = 3 * source.size(1) * (len(task.tgt_dict) + 1)
    most = dict.fromkeys(passes.ELEMENTS_PER_PASS, 2 * of_a_sentence)
    monkeypatch.setattr(passes, "ELEMENTS_PER_PASS", most)

    class Reader(TeacherRescorer):
        def log_probs(self, encoded, rows, candidates):
            widths.append((candidates.tokens.size(1), int(candidates.mask.sum(dim=1).max())))
            return super().log_probs(encoded, rows, candidates)

    model = build(task, "nart_ctc_tiny").to(device)
    teacher = build_teacher(task, "transformer").to(device)
    decoder = engine(task, model, 4)
    decoder.rescorer = Reader(teacher, task.tgt_dict.eos(), "sum", 0.0)
    decoder(source)
    assert len(widths) == len(source) / 2
    assert all(width == longest for width, longest in widths)


def test_model_overfits(task, batch, device):
    model = build(task, "nart_ctc_tiny", "--ctc-split", "2").to(device)
    expected = overfit(task, model, batch, updates=250, lr=1e-2)
    hypotheses = engine(task, model, 1)(batch["net_input"]["src_tokens"])
    assert [h[0].tokens.tolist() for h in hypotheses] == expected


def test_share_of_too_long_targets_is_logged(task, batch, device):
    from fairseq.logging import metrics

    model = build(task, "nart_ctc_tiny", "--ctc-split", "1").to(device)
    source = batch["net_input"]["src_tokens"]
    batch["net_input"]["src_tokens"] = source[:, -2:]  # two tokens: no target fits
    loss, _, log = NartCriterion(task)(model, batch)
    assert loss.item() == 0
    with metrics.aggregate() as aggregate:
        NartCriterion.reduce_metrics([log, log])
    assert aggregate.get_smoothed_values()["too_long"] == 1.0


def test_length_candidates_are_refused(task, data, device):
    model, task = build(task, "nart_ctc_tiny").to(device), load_task(data, length_candidates=3)
    with pytest.raises(ValueError, match="--length-candidates has no effect on NartCtc"):
        task.build_engine(model)


@pytest.mark.parametrize("beam", [1, 4])
def test_blank_bias_is_taken_off_the_blank(beam, task, batch, device):
    """As if the logit were smaller. A negative one gives shorter outputs."""
    model = build(task, "nart_ctc_tiny", "--ctc-split", "2").to(device)
    source, frames = batch["net_input"]["src_tokens"], model.frames
    decoder = engine(task, model, beam)
    decoder.options.ctc_blank_bias = -6.0
    biased = decoder(source)
    assert len(biased[0][0].tokens) < len(engine(task, model, beam)(source)[0][0].tokens)

    def likely_blank(states):
        logits, blank, mask = frames(states)
        return logits, blank + 6.0, mask

    model.frames = likely_blank
    expected = engine(task, model, beam)(source)
    for ours, theirs in zip(biased, expected, strict=True):
        assert [h.tokens.tolist() for h in ours] == [h.tokens.tolist() for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs])


def test_nmla_fine_tunes_a_trained_model(task, batch, device):
    """The loss is 1 - F1 of bigrams, so it starts high and falls to 0; too long targets count."""
    options = ("--ctc-split", "2", "--ctc-loss", "nmla")
    model = build(task, "nart_ctc_tiny", *options).to(device)
    source, target = batch["net_input"]["src_tokens"], batch["target"]
    (term,) = model(source, target)
    assert term.name == "nmla_loss" and term.count == len(target)
    assert 0.5 < term.sum.item() / term.count <= 1
    model.cfg.ctc_loss = "ctc"
    overfit(task, model, batch, updates=100, lr=1e-2)
    model.cfg.ctc_loss = "nmla"
    before = model(source, target)[0].sum.item()
    expected = overfit(task, model, batch, updates=100, lr=3e-3)
    assert model(source, target)[0].sum.item() < min(before, 0.1 * len(target))
    outputs = engine(task, model, 1)(source)
    same = sum(h[0].tokens.tolist() == one for h, one in zip(outputs, expected, strict=True))
    assert same >= len(expected) - 1


def test_nmla_needs_frames(task, capsys):
    with pytest.raises(SystemExit):
        build(task, "nart_tiny", "--ctc-loss", "nmla")
    assert "unrecognized arguments: --ctc-loss nmla" in capsys.readouterr().err


def test_consistency_of_two_passes(task, batch, device):
    """Without dropout both are equal, and the rest of the loss is that of one pass."""
    source, target = batch["net_input"]["src_tokens"], batch["target"]
    plain = build(task, "nart_ctc_tiny", "--dropout", "0").to(device).train()
    words = ("--consistency-weight", "0.5", "--dropout")
    twice = build(task, "nart_ctc_tiny", *words, "0").to(device).train()
    expected = {term.name: term for term in plain(source, target)}
    terms = {term.name: term for term in twice(source, target)}
    assert terms["consistency"].sum == 0 and terms["consistency"].weight == 0.5
    ours, theirs = terms["ctc_loss"], expected["ctc_loss"]
    torch.testing.assert_close(ours.weight * ours.sum, theirs.weight * theirs.sum)
    assert ours.count == 2 * theirs.count, "the logged mean is that of a token"
    assert [term.name for term in twice.eval()(source, target)] == ["ctc_loss", "too_long"]
    different = build(task, "nart_ctc_tiny", *words, "0.3").to(device).train()
    assert {term.name: term for term in different(source, target)}["consistency"].sum > 0

"""Teacher scores, compared with fairseq's scorer, and the choice of a candidate."""

import pytest
import torch
from fairseq.sequence_scorer import SequenceScorer
from toys import TEACHERS, batch_of, build, build_teacher

from fairseq_nart.generation.clean import Candidates
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.normalization import normalize
from fairseq_nart.models.nart import NartDecoding
from fairseq_nart.tasks._cpu_decoding import pack
from fairseq_nart.teacher.rescoring import TeacherRescorer

EOS, PAD = 2, 1


def test_scores_do_not_depend_on_passes(task, device, monkeypatch):
    """The teacher reads the source of each candidate, not always the first of the batch."""
    source = batch_of(task, device)["net_input"]["src_tokens"]
    rescorer = TeacherRescorer(build_teacher(task, "transformer").to(device), EOS, "gnmt", 0.6)
    options = NartDecoding(length_candidates=9)
    model = build(task, "nart_dcrf_tiny").to(device)
    decode = Engine(model, eos=EOS, pad=PAD, options=options, rescorer=rescorer)
    whole, limits = decode(source), {"cpu": 1, "accelerator": 1}
    monkeypatch.setattr("fairseq_nart.generation.passes.ELEMENTS_PER_PASS", limits)
    for mine, theirs in zip(decode(source), whole, strict=True):
        assert [h.score for h in mine] == pytest.approx([h.score for h in theirs], abs=1e-4)
        assert mine[0].tokens.tolist() == theirs[0].tokens.tolist()


@pytest.mark.usefixtures("pack_small_layers")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", TEACHERS)
@torch.no_grad()
def test_scores_equal_fairseqs_scorer(kind, packed, task, device):
    """Mean log-probability of the references, as --score-reference prints it; rows permuted."""
    teacher, batch = build_teacher(task, kind).to(device), batch_of(task, device)
    expected = SequenceScorer(task.tgt_dict).generate([teacher], batch)
    rescorer = TeacherRescorer(teacher, EOS, "mean", 0.0)
    if packed:
        pack(teacher)
    mask, sizes = batch["target"].ne(PAD), []
    if kind == "transformer":
        teacher.decoder.output_projection.register_forward_hook(
            lambda *call: sizes.append(call[2][..., 0].numel())
        )
    encoded = rescorer.encode(batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"])
    for order in ([4, 2, 2, 0, 1, 3], [0, 1]):  # a second pass over the same encoding
        rows = torch.tensor(order, device=device)
        candidates = Candidates(batch["target"][rows], mask[rows], mask[rows].float())
        log_probs = rescorer.log_probs(encoded, rows, candidates)
        scores = rescorer.score(log_probs, mask[rows]).tolist()
        for score, token_scores, row in zip(scores, log_probs, order):
            theirs = expected[row][0]
            assert score == pytest.approx(theirs["score"].item(), abs=1e-4)
            end = len(theirs["positional_scores"])
            torch.testing.assert_close(
                token_scores[:end], theirs["positional_scores"], rtol=1e-4, atol=1e-4
            )
            assert not token_scores[end:].any()
        if kind == "transformer":
            assert sizes.pop() == mask[rows.unique()].sum(), "padding must not be computed"


def test_equal_candidates_are_scored_once(task, monkeypatch):
    rescorer = TeacherRescorer(build_teacher(task, "transformer"), EOS, "mean", 0.0)
    batch, sizes, plain = batch_of(task, "cpu"), [], rescorer.distributions
    monkeypatch.setattr(
        rescorer, "distributions", lambda *words: sizes.append(len(words[1])) or plain(*words)
    )
    encoded = rescorer.encode(batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"])
    rows, same = torch.tensor([0, 0, 1]), torch.tensor([3, 3, 3])  # of two sentences
    tokens = batch["target"][same]
    mask = tokens.ne(PAD)
    rescorer.log_probs(encoded, rows, Candidates(tokens, mask, mask.float()))
    assert sizes == [2]


def test_best_candidate_is_the_teachers_best(task, device):
    """Among the same candidates, recomputed one by one with fairseq's scorer."""
    model = build(task, "nart_dcrf_tiny").to(device)
    teacher, batch = build_teacher(task, "transformer").to(device), batch_of(task, device)
    source = batch["net_input"]["src_tokens"]
    rescorer = TeacherRescorer(teacher, EOS, "gnmt", 0.6)
    nine = NartDecoding(length_candidates=9)
    chosen = Engine(model, eos=EOS, pad=PAD, options=nine, rescorer=rescorer)(source)
    unscored = Engine(model, eos=EOS, pad=PAD, options=nine)(source)
    scorer = SequenceScorer(task.tgt_dict)
    for row, (mine, candidates) in enumerate(zip(chosen, unscored)):
        scores = {}
        for candidate in candidates:
            net_input = {
                "src_tokens": source[row : row + 1],
                "src_lengths": source[row : row + 1].ne(PAD).sum(1),
                "prev_output_tokens": candidate.tokens.roll(1)[None].to(device),
            }
            sample = {"net_input": net_input, "target": candidate.tokens[None].to(device)}
            ((theirs,),) = scorer.generate([teacher], sample)
            total, length = theirs["positional_scores"].sum().item(), len(candidate.tokens)
            scores[tuple(candidate.tokens.tolist())] = total / ((5 + length) / 6) ** 0.6
        assert {tuple(h.tokens.tolist()) for h in mine} == scores.keys()
        assert mine[0].score == pytest.approx(max(scores.values()), abs=1e-4)
        for hypothesis in mine:
            expected = scores[tuple(hypothesis.tokens.tolist())]
            assert hypothesis.score == pytest.approx(expected, abs=1e-4)


def test_rescoring_one_candidate_changes_nothing(task, device):
    model = build(task, "nart_tiny").to(device)
    source = batch_of(task, device)["net_input"]["src_tokens"]
    rescorer = TeacherRescorer(build_teacher(task, "transformer").to(device), EOS, "gnmt", 0.6)
    with_teacher = Engine(model, eos=EOS, pad=PAD, rescorer=rescorer)(source)
    without = Engine(model, eos=EOS, pad=PAD)(source)
    for mine, theirs in zip(with_teacher, without):
        assert mine[0].tokens.tolist() == theirs[0].tokens.tolist()


@pytest.mark.parametrize("side", ["source", "target"])
def test_sentence_too_long_for_the_teacher_is_refused(side, task, device):
    """fairseq's convolutional models have two positions fewer than configured."""
    teacher = build_teacher(task, "conv", f"--max-{side}-positions", "12").to(device)
    rescorer = TeacherRescorer(teacher, EOS, "mean", 0.0)
    tokens, rows = torch.full((1, 11), 5, device=device), torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match=r"of 11 tokens is too long for the teacher.* 10 pos"):
        encoded = rescorer.encode(tokens, torch.tensor([11], device=device))
        rescorer.distributions(encoded, rows.to(device), tokens)
    encoded = rescorer.encode(tokens[:, 1:], torch.tensor([10], device=device))
    assert rescorer.distributions(encoded, rows.to(device), tokens[:, 1:]).isfinite().all()


def test_normalization_rules():
    total, length = torch.tensor([-6.0]), torch.tensor([7])
    assert normalize(total, length, "sum", 0.6).item() == -6
    assert normalize(total, length, "mean", 0.6).item() == pytest.approx(-6 / 7)
    assert normalize(total, length, "gnmt", 1.0).item() == -3
    assert normalize(total, length, "reward", 2.0).item() == 8
    with pytest.raises(ValueError, match="'max'"):
        normalize(total, length, "max", 1.0)

"""The directed graph: training, glancing, scores, and the CRF on a path."""

import itertools

import pytest
import torch
from fairseq.logging import metrics
from toys import batch_of, build, fairseq_generate, fairseq_train, lines_of, overfit

from fairseq_nart.criterions.nart import NartCriterion
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.system import Request
from fairseq_nart.models import nart_dag
from fairseq_nart.models._warm_start import warm_start

GLANCING = ["--glancing", "--max-update", "100"]


@pytest.fixture
def batch(task, device):
    return batch_of(task, device, rows=6, split="valid")


def terms_of(model, batch):
    return {x.name: x.sum for x in model(batch["net_input"]["src_tokens"], batch["target"])}


def translate(task, model, batch, **options):
    ends = {"eos": task.tgt_dict.eos(), "pad": task.tgt_dict.pad()}
    engine = Engine(model, **ends, options=model.Decoding(**options))
    return engine(batch["net_input"]["src_tokens"])


def decode(model, source, **options):
    states, options = model.encode(source), model.Decoding(**options)
    return model.decode(Request(states, model.propose(states, options), options))


@pytest.mark.parametrize(
    "words, updates", [([], 200), (GLANCING, 250), (["--output", "dcrf"], 200)], ids=str
)
def test_model_overfits(words, updates, task, batch, device):
    model = build(task, "nart_dag_tiny", *words).to(device)
    expected = overfit(task, model, batch, updates=updates, lr=1e-2)
    for search in ("greedy", "lookahead", "viterbi"):
        hypotheses = translate(task, model, batch, dag_search=search)
        assert [h[0].tokens.tolist() for h in hypotheses] == expected


@pytest.mark.parametrize("words", [[], ["--output", "crf"], GLANCING])
def test_share_of_too_long_targets_is_logged(words, task, batch, device):
    """Two source tokens of two vertices: no target has fewer than four tokens."""
    model = build(task, "nart_dag_tiny", "--dag-vertices", "2", *words).to(device).train()
    batch["net_input"]["src_tokens"] = batch["net_input"]["src_tokens"][:, -2:]
    loss, _, log = NartCriterion(task)(model, batch)
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with metrics.aggregate() as aggregate:
        NartCriterion.reduce_metrics([log, log])
    assert aggregate.get_smoothed_values()["too_long"] == 1.0


def test_special_symbols_are_never_output(task, batch, device):
    model = build(task, "nart_dag_tiny").to(device)
    specials = [task.tgt_dict.bos(), task.tgt_dict.pad()]
    bias = torch.zeros(len(task.tgt_dict), device=device)
    bias[specials] = 100
    model.decoder.output_projection.register_forward_hook(lambda *call: call[2] + bias)
    for hypotheses in translate(task, model, batch, dag_paths=4):
        assert all(not set(specials) & set(h.tokens.tolist()) for h in hypotheses)


@pytest.mark.parametrize("output", ["softmax", "crf", "dcrf"])
def test_outputs_and_scores_equal_enumeration(output, task, device):
    """The best path of each length by its moves and best tokens, then the best tokens on it among
    the candidates of each vertex; the score is the log-probability of path and tokens."""
    words = ["--dag-vertices", "3", "--output", output]
    words += [] if output == "softmax" else ["--crf-candidates", "3"]
    model = build(task, "nart_dag_tiny", *words, seed=4).to(device)
    source = torch.tensor([[7, 9, 2]], device=device)
    decoded = decode(model, source, dag_paths=4)
    states = model.encode(source)
    features, transitions = model.link(*model.split(states.output, states.mask), states)
    logits = model.forbid(model.decoder.output_projection(features)).float()[0]
    log_probs, transitions = logits.log_softmax(dim=1), transitions[0]
    best = []
    for length in range(1, 9):
        paths = [(*x, 8) for x in itertools.combinations(range(1, 8), length - 1)]
        moves = [sum(transitions[pair] for pair in itertools.pairwise((0, *x))) for x in paths]
        total = [m + log_probs[list(x)].amax(dim=1).sum() for m, x in zip(moves, paths)]
        place = int(torch.stack(total).argmax())
        best.append((total[place] / length, moves[place], paths[place]))
    best.sort(key=lambda one: -one[0])
    for row, (_, moved, path) in enumerate(best[:4]):
        mask = decoded.mask[row]
        tokens, score = decoded.tokens[row][mask].tolist(), decoded.log_probs[row].sum()
        assert len(tokens) == len(path) and decoded.valid[0, row]
        if output == "softmax":
            assert tokens == log_probs[list(path)].argmax(dim=1).tolist()
            expected = log_probs[list(path)].amax(dim=1).sum()
        else:
            chain = features[:, list(path)]
            ids = logits[list(path)].topk(3, dim=1).indices
            every = torch.tensor(list(itertools.product(*ids.tolist())), device=device)
            scores = _chain_scores(model, chain, logits[list(path)], every)
            assert tokens == every[scores.argmax()].tolist()
            expected = scores.log_softmax(dim=0).max()
        torch.testing.assert_close(score, moved + expected, rtol=1e-4, atol=1e-4)


def _chain_scores(model, chain, logits, every):
    """Scores of sequences (P,T) on the vertices with states chain (1,T,D) and logits (T,V)."""
    steps = torch.arange(every.size(1), device=every.device)
    scores = logits[steps, every].sum(dim=1)
    states = model.head.states(chain)
    states = None if states is None else states.expand(len(every), -1, -1)
    pairs = model.crf.transitions(every[..., None], states)  # (P,T-1,1,1)
    return scores + pairs.flatten(1).sum(dim=1)


def test_crf_starts_where_the_graph_ended(task, batch, device):
    """Its loss is then the tokens' cross-entropy on the best path."""
    plain = build(task, "nart_dag_tiny", seed=3).to(device)
    words = ("--output", "dcrf", "--crf-candidates", "100000")
    model = build(task, "nart_dag_tiny", *words).to(device)
    report = warm_start(model, plain.state_dict(), "dag.pt")
    assert "new here: crf.transitions" in report and "unused there: nothing" in report
    torch.nn.init.zeros_(model.crf.transitions.target.weight)
    terms, expected = terms_of(model, batch), terms_of(plain, batch)
    torch.testing.assert_close(terms["dag_loss"], expected["dag_loss"])
    assert 0 < terms["crf_loss"] < terms["dag_loss"]
    weights = {x.name: x.weight for x in model(batch["net_input"]["src_tokens"], batch["target"])}
    assert weights == {"dag_loss": 0.5, "too_long": 0.0, "crf_loss": 1.0}
    ours, theirs = (translate(task, x, batch, dag_paths=3) for x in (model, plain))
    for one, other in zip(ours, theirs, strict=True):
        assert [h.tokens.tolist() for h in one] == [h.tokens.tolist() for h in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-4)


# Glancing


def test_revealed_tokens_are_inputs_and_the_only_emissions_of_their_vertices(
    task, batch, device, monkeypatch
):
    words = ("--glancing-ratio", "1,1")
    model, seen = build(task, "nart_dag_tiny", *GLANCING, *words).to(device).train(), []
    glance = model.glance
    monkeypatch.setattr(model, "glance", lambda *x: seen.append(glance(*x)) or seen[-1])
    model.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss = nart_dag.dag_loss
    monkeypatch.setattr(nart_dag, "dag_loss", lambda *x: seen.append(x[0]) or loss(*x))
    terms = terms_of(model, batch)
    before, (path, revealed), inputs, emissions = seen
    target, words = batch["target"], batch["target"].ne(task.tgt_dict.pad())
    assert terms["dag_loss"].isfinite() and revealed.any() and not (revealed & ~words).any()
    embedded = model.decoder.embed(target)
    changed = (inputs != before).any(dim=2)
    assert int(changed.sum()) == int(revealed.sum())
    for row, i in revealed.nonzero().tolist():
        vertex = path[row, i]
        torch.testing.assert_close(inputs[row, vertex], embedded[row, i])
        others = torch.arange(target.size(1), device=device) != i
        assert emissions[row, vertex, i] > -torch.inf
        assert (emissions[row, vertex, others] == -torch.inf).all()


def test_no_glancing_is_the_plain_system(task, batch, device):
    """With ratio 0, and in evaluation."""
    plain = build(task, "nart_dag_tiny", "--dropout", "0.3").to(device)
    none = build(task, "nart_dag_tiny", "--dropout", "0.3", *GLANCING, "--glancing-ratio", "0,0")
    half = build(task, "nart_dag_tiny", "--dropout", "0.3", *GLANCING)
    losses = []
    for model in (plain.train(), none.to(device).train()):
        torch.manual_seed(1)
        losses.append(terms_of(model, batch)["dag_loss"])
    assert losses[0] == losses[1]
    assert terms_of(half.to(device).eval(), batch) == terms_of(plain.eval(), batch)
    torch.manual_seed(1)
    assert terms_of(half.train(), batch)["dag_loss"] < losses[0]


def test_both_passes_have_the_same_dropout(task, batch, device):
    """If no token is revealed, the second pass equals the first."""
    words = ("--dropout", "0.5", *GLANCING, "--glancing-ratio", "1e-9,0")
    model, features = build(task, "nart_dag_tiny", *words).to(device).train(), []
    model.decoder.register_forward_hook(lambda *call: features.append(call[2]))
    terms_of(model, batch)
    assert len(features) == 2
    torch.testing.assert_close(*features)


def test_checkpoint_trained_with_glancing_translates(data, tmp_path, capsys):
    words = ["--user-dir", "fairseq_nart", "--arch", "nart_dag_tiny", "--embed-dim", "16"]
    words += ["--ffn-embed-dim", "32", "--glancing", "--max-update", "3"]
    checkpoint = fairseq_train(data, tmp_path, *words, "--disable-validation")
    fairseq_generate(data, checkpoint, "--user-dir", "fairseq_nart", "--dag-search", "lookahead")
    assert lines_of(capsys.readouterr().out, "H")

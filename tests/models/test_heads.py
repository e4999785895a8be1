"""Every system that knows its target's length can have a CRF as its output layer."""

from dataclasses import replace

import pytest
import torch
from toys import SMALL, batch_of, build, fairseq_generate, fairseq_train, lines_of

from fairseq_nart import hub
from fairseq_nart.crf import LinearChainCRF
from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.models._heads import CrfHead, SoftmaxHead

WITH_A_HEAD = ["nart_tiny", "nart_fertility_tiny", "nart_refinement_tiny"]
OPTIONS = {"nart_refinement_tiny": {"refinement_iterations": 3}}


@pytest.fixture
def batch(task, device):
    return batch_of(task, device, rows=6)


def loss_terms(model, task, batch):
    source, target, side = batch["net_input"]["src_tokens"], batch["target"], {}
    if model.side_inputs:  # the first token produces the whole target
        first = source.ne(task.src_dict.pad()).int().argmax(dim=1, keepdim=True)
        counts = target.ne(task.tgt_dict.pad()).sum(dim=1, keepdim=True)
        side["fertilities"] = torch.zeros_like(source).scatter_(1, first, counts)
    return {term.name: term for term in model(source, target, **side)}


def translations(model, task, source, **options):
    eos, pad = task.tgt_dict.eos(), task.tgt_dict.pad()
    engine = Engine(model, eos=eos, pad=pad, options=model.Decoding(**options))
    return [[h.tokens.tolist() for h in hypotheses] for hypotheses in engine(source)]


@pytest.mark.parametrize("output", ["crf", "dcrf"])
@pytest.mark.parametrize("arch", WITH_A_HEAD)
def test_crf_without_transitions_equals_softmax(arch, output, task, batch, device):
    """Same tokens and likelihood: the CRF starts where the system without one ended."""
    words = ("--label-smoothing", "0")
    plain = build(task, arch, *words, seed=4).to(device)
    crf = build(task, arch, *words, "--output", output, "--crf-candidates", "9999").to(device)
    crf.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.zeros_(crf.crf.transitions.target.weight)
    assert isinstance(plain.head, SoftmaxHead) and isinstance(crf.head, CrfHead)
    source = batch["net_input"]["src_tokens"]
    options = OPTIONS.get(arch, {})
    actual = translations(crf, task, source, **options)
    assert actual == translations(plain, task, source, **options)
    mine, theirs = (loss_terms(model, task, batch) for model in (crf, plain))
    last = "_4" if "refinement" in arch else ""
    torch.testing.assert_close(mine[f"crf_loss{last}"].sum, theirs[f"nar_loss{last}"].sum)
    assert mine[f"nar_loss{last}"].weight == 0.5
    assert ("crf_loss_1" in mine) is False  # only the last pass has a CRF


@pytest.mark.parametrize("arch", WITH_A_HEAD)
def test_transitions_and_paths_change_the_output(arch, task, batch, device):
    model = build(task, arch, "--output", "crf", seed=2).to(device)
    torch.nn.init.normal_(model.crf.transitions.target.weight, std=3)
    source, options = batch["net_input"]["src_tokens"], OPTIONS.get(arch, {})
    best = translations(model, task, source, **options)
    several = translations(model, task, source, crf_paths=4, **options)
    assert all(len(hypotheses) > 1 for hypotheses in several)
    assert [h[0] for h in best] != translations(build(task, arch, seed=2).to(device), task, source)
    alone = [translations(model, task, row[None], crf_paths=4, **options)[0] for row in source]
    assert alone == several


def test_lattice_of_the_last_pass_is_searched(task, batch, device):
    """Refinement with a CRF equals the layer's own decoding of the last features."""
    words = ("--output", "dcrf", "--length-predictor", "offset")
    model = build(task, "nart_refinement_tiny", *words, seed=2).to(device)
    seen = []
    search = model.head.search
    model.head.search = lambda *of: seen.append(of) or search(*of)
    hypotheses = translations(
        model, task, batch["net_input"]["src_tokens"], refinement_iterations=3
    )
    features, _, mask, _ = seen[0]
    with torch.inference_mode():
        logits = model.forbid(model.decoder.output_projection(features))
        _, tokens = model.crf.decode(logits, mask, features)
    rows, eos = [row[keep].tolist() for row, keep in zip(tokens, mask)], task.tgt_dict.eos()
    assert min(map(len, rows)) > 4
    assert [h[0] for h in hypotheses] == [[*row, eos][: [*row, eos].index(eos) + 1] for row in rows]


def test_refinement_with_a_crf_trains_and_generates(data, tmp_path, capsys):
    words = ["--arch", "nart_refinement_tiny", *SMALL, "--output", "crf", "--max-update", "2"]
    checkpoint = fairseq_train(data, tmp_path, *words, "--disable-validation")
    state = torch.load(checkpoint, weights_only=True)["model"]
    assert "crf.transitions.source.weight" in state
    fairseq_generate(data, checkpoint, "--crf-paths", "2", "--refinement-stop", "unchanged")
    generated = lines_of(capsys.readouterr().out, "H")
    assert len(generated) == 17
    hub.from_pretrained(checkpoint, data, crf_paths=2).translate(["heute"])


def test_preset_equals_option(task):
    preset, option = build(task, "nart_dcrf_tiny"), build(task, "nart_tiny", "--output", "dcrf")
    assert preset.state_dict().keys() == option.state_dict().keys()
    assert preset.head.dynamic and option.head.dynamic


@pytest.mark.parametrize(
    "words", [("--crf-rank", "8"), ("--crf-candidates", "3"), ("--nar-loss-weight", "1.0")]
)
def test_crf_options_without_a_crf_are_refused(words, task):
    with pytest.raises(UserError, match=f"{words[0]} is for a CRF, but --output is softmax"):
        build(task, "nart_tiny", *words)


def test_lattice_equals_layer(device):
    torch.manual_seed(0)
    crf = LinearChainCRF(7, rank=2, candidates=7).to(device)
    torch.nn.init.normal_(crf.transitions.target.weight)
    emissions, mask = torch.randn(3, 4, 7, device=device), torch.ones(3, 4, device=device).bool()
    lattice, targets = crf.lattice(emissions, mask), torch.randint(7, (3, 4), device=device)
    likelihood = lattice.log_likelihood(lattice.path_of(targets))
    torch.testing.assert_close(likelihood, crf.log_likelihood(emissions, targets, mask))
    torch.testing.assert_close(lattice.log_probs(lattice.path_of(targets)).sum(1), likelihood)
    samples = lattice.sample(2000, torch.Generator(device).manual_seed(1))
    share = torch.nn.functional.one_hot(samples[:, :, 1], 7).double().mean(dim=1)
    unary, _ = lattice.marginals()
    torch.testing.assert_close(share, unary[:, 1].double(), atol=0.05, rtol=0)
    shifted = replace(lattice, emissions=lattice.emissions + 1)
    torch.testing.assert_close(shifted.log_partition(), lattice.log_partition() + 4)

"""Every architecture builds, decodes a batch and has gradients for all weights."""

from dataclasses import fields

import pytest
import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from toys import batch_of, build

from fairseq_nart.generation.engine import Engine
from fairseq_nart.layers.lengths import LengthClassifier, OffsetLength
from fairseq_nart.models._registry import SIZES, training_defaults

BY_LEARNED_LENGTH = ["nart_refinement", "nart_cmlm"]
SYSTEMS = [
    "nart",
    "nart_crf",
    "nart_dcrf",
    "nart_ctc",
    "nart_dag",
    "nart_fertility",
    *BY_LEARNED_LENGTH,
]
SYSTEMS += ["nart_enat_p", "nart_enat_e", "nart_reg", "nart_latent", "nart_vqvae"]
ARCHS = [s for system in SYSTEMS for s in (system, *(f"{system}_{size}" for size in SIZES))]


def test_all_architectures_are_registered():
    kinds = [f"nart_teacher{kind}" for kind in ("", "_deep", "_lstm", "_conv")]
    teachers = [t for kind in kinds for t in (kind, *(f"{kind}_{size}" for size in SIZES))]
    assert {*ARCHS, *teachers} <= set(ARCH_MODEL_REGISTRY)
    for arch in (*ARCHS, *teachers):
        assert training_defaults(arch).keys() >= {"--criterion", "--optimizer", "--lr"}
    assert training_defaults("transformer") == {} == training_defaults(None)


def _first(task, source):
    return source.ne(task.src_dict.pad()).int().argmax(dim=1, keepdim=True)


def _decode(model, task, batch):
    counted = [x.name for x in fields(model.Decoding) if "candidates" in x.metadata]
    several = next(name for name in counted if name not in model.idle_options)
    options = model.Decoding(**{several: 3})
    engine = Engine(model, eos=task.tgt_dict.eos(), pad=task.tgt_dict.pad(), options=options)
    return engine(batch["net_input"]["src_tokens"])


def _learn(model, task, batch):
    """Computes gradients; returns the loss."""
    source, target, side = batch["net_input"]["src_tokens"], batch["target"], {}
    if model.side_inputs:  # the first token produces the whole target
        counts = target.ne(task.tgt_dict.pad()).sum(dim=1, keepdim=True)
        side["fertilities"] = torch.zeros_like(source).scatter_(1, _first(task, source), counts)
    loss = torch.stack([term.weight * term.sum for term in model(source, target, **side)]).sum()
    loss.backward()
    return loss.item()


@pytest.mark.parametrize("arch", ARCHS)
def test_architecture_decodes_and_learns(arch, task, device):
    words = () if arch.endswith(("tiny", "cpu")) else ("--encoder-layers", "1")
    model, batch = build(task, arch, *words).to(device), batch_of(task, device, rows=3)
    hypotheses = _decode(model, task, batch)
    assert len(hypotheses) == 3
    assert all(h[0].tokens[-1] == task.tgt_dict.eos() for h in hypotheses)
    _learn(model.train(), task, batch)
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert not without, "weights without a gradient"


@pytest.mark.parametrize("system", SYSTEMS)
def test_gpu_equals_cpu(system, task, device, monkeypatch):
    """In losses, gradients and translations. Random numbers come from the CPU for both."""
    if device.type == "cpu":
        pytest.skip("for make test PYTEST='--device cuda:0'")
    for name in ("rand", "randint"):
        monkeypatch.setattr(torch, name, _sampled_on_the_cpu(getattr(torch, name)))
    losses, gradients, outputs = [], [], []
    for where in (torch.device("cpu"), device):
        model, batch = build(task, f"{system}_tiny").to(where), batch_of(task, where)
        outputs.append([[x.tokens.tolist() for x in h] for h in _decode(model, task, batch)])
        torch.manual_seed(1)
        losses.append(_learn(model.train(), task, batch))
        gradients.append({n: p.grad.cpu() for n, p in model.named_parameters()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, gradient in gradients[0].items():
        error = (gradients[1][name] - gradient).norm() / gradient.norm().clamp(min=1e-3)
        assert error < 1e-3, f"{name}: {error}"
    assert outputs[1] == outputs[0]


def _sampled_on_the_cpu(function):
    def sample(*args, device="cpu", **kwargs):
        return function(*args, **kwargs).to(device)

    return sample


def test_sizes_are_as_documented(task):
    """`_cpu`, with its own widths: 4 layers, width 256, FFN 1024, 4 heads."""
    model = build(task, "nart_cpu", "--embed-dim", "256", "--ffn-embed-dim", "1024")
    assert len(model.encoder.layers) == len(model.decoder.layers) == 4
    assert model.encoder.layers[0].self_attn.heads == 4
    base = build(task, "nart", "--encoder-layers", "1")
    assert len(base.decoder.layers) == 6 and base.encoder.layers[0].self_attn.heads == 8
    assert isinstance(base.lengths, OffsetLength)
    for arch in BY_LEARNED_LENGTH:
        model = build(task, arch, "--encoder-layers", "1", "--decoder-layers", "1")
        assert isinstance(model.lengths, LengthClassifier)

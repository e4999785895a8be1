"""Models whose linear layers are packed for decoding on a CPU."""

import copy
import pickle

import pytest
import torch
from torch import nn
from toys import TEACHERS, batch_of, build, build_teacher, load_task

from fairseq_nart.layers.linear import PackedLinear
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.tasks._cpu_decoding import pack

pytestmark = pytest.mark.usefixtures("pack_small_layers")

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def features(model, source, mask) -> tuple[EncoderStates, torch.Tensor]:
    """The encoder's states of `source`, and logits with their first embeddings as decoder input."""
    states = model.encode(source)
    x = states.embeddings[:, : mask.size(1)]
    return states, model.decoder.output_projection(model.decoder(x, mask, states))


@pytest.mark.parametrize("arch", ["nart_tiny", "nart_fertility_tiny", "nart_refinement_tiny"])
@torch.no_grad()
def test_packed_model_computes_the_same(arch, task):
    """All but the joined projections are replaced, only once, and tied embeddings stay tied."""
    model, source = build(task, arch).eval(), batch_of(task, "cpu")["net_input"]["src_tokens"]
    masks = [torch.ones(5, 3).bool(), torch.arange(4) < torch.tensor([[4], [2], [3], [4], [1]])]
    before = [features(model, source, mask) for mask in masks]
    names = list(model.state_dict())
    for _ in range(2):
        pack(model)
    for mask, (states, logits) in zip([*masks, masks[0]], [*before, before[0]]):
        after, packed = features(model, source, mask)
        for x, y in (
            (states.output[states.mask], after.output[states.mask]),
            (logits[mask], packed[mask]),
        ):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
    plain = {name.split(".")[-1] for name, x in model.named_modules() if type(x) is nn.Linear}
    assert plain == {*PROJECTIONS}
    assert {type(x) for x in model.decoder.layers[0].children()} >= {PackedLinear}
    assert model.decoder.output_projection.weight is model.encoder.embed_tokens.weight
    assert list(model.state_dict()) == names


@torch.no_grad()
def test_packed_model_can_change_device_and_precision(task, device):
    model, source = build(task, "nart_tiny"), batch_of(task, "cpu")["net_input"]["src_tokens"]
    pack(model)
    expected = model.encode(source).output
    moved = model.to(device).encode(source.to(device)).output.cpu()
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-3)
    rounded = model.cpu().bfloat16().encode(source).output.float()
    assert not torch.equal(rounded, expected)
    torch.testing.assert_close(rounded, expected, rtol=0.1, atol=0.1)


@torch.no_grad()
def test_packed_model_can_be_copied_pickled_and_changed(task):
    """Packed weights follow changes of the weights."""
    models = [build(task, "nart_tiny", seed=seed).eval() for seed in (0, 1)]
    source = batch_of(task, "cpu")["net_input"]["src_tokens"]
    for model in models:
        pack(model)
    one, other = (model.encode(source).output for model in models)
    for copied in (copy.deepcopy(models[0]), pickle.loads(pickle.dumps(models[0]))):
        torch.testing.assert_close(copied.encode(source).output, one)
    models[0].load_state_dict(models[1].state_dict())
    torch.testing.assert_close(models[0].encode(source).output, other)
    attention = models[0].encoder.layers[0].self_attn
    for layer in (attention.q_proj, attention.v_proj, models[0].encoder.layers[0].fc1):
        before = models[0].encode(source).output
        layer.bias.add_(torch.arange(len(layer.bias)))
        assert not torch.allclose(models[0].encode(source).output, before)


@pytest.mark.parametrize("kind", TEACHERS)
@torch.no_grad()
def test_loaded_teacher_is_packed(kind, task):
    """All layers are replaced except those that normalize their weights when called."""
    trained = build_teacher(task, kind, seed=1)
    batch = batch_of(task, "cpu")["net_input"]
    expected = trained(**batch)[0]
    teacher = build_teacher(task, kind, seed=2)
    teacher.load_state_dict(trained.state_dict())
    pack(teacher)
    torch.testing.assert_close(teacher(**batch)[0], expected, rtol=1e-4, atol=1e-5)
    plain = [x for x in teacher.modules() if type(x) is nn.Linear]
    assert bool(plain) == (kind == "conv")
    assert all(layer._forward_pre_hooks for layer in plain)


def test_teacher_gets_the_precision_of_its_student(data, teacher):
    """Only float32 is packed."""
    task = load_task(data, rescore_with=str(teacher))
    engine = task.build_engine(build(task, "nart_tiny").bfloat16())
    rescorer = engine.rescorer.teacher
    assert next(rescorer.parameters()).dtype == torch.bfloat16
    assert type(rescorer.decoder.layers[0].fc1) is nn.Linear


def test_model_in_training_is_not_packed(data):
    """--eval-bleu decodes with the model in training."""
    for eval_bleu in (True, False):
        task = load_task(data, eval_bleu=eval_bleu, eval_bleu_args="{}", eval_bleu_detok="space")
        model = build(task, "nart_tiny")
        task.build_engine(model)
        assert (type(model.decoder.layers[0].fc1) is nn.Linear) == eval_bleu


def test_bfloat16_is_not_packed(task):
    model = build(task, "nart_tiny").bfloat16()
    pack(model)
    assert type(model.decoder.layers[0].fc1) is nn.Linear


def test_torch_without_packed_layers(task, monkeypatch):
    model = build(task, "nart_tiny")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    pack(model)
    assert type(model.decoder.layers[0].fc1) is nn.Linear


def test_shared_layer_is_packed_once(task, pack_small_layers):
    model = build(task, "nart_refinement_tiny")
    pack(model)
    assert model.refiner.output_projection is model.decoder.output_projection

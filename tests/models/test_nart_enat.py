"""ENAT-P and ENAT-E: decoder inputs, losses, checkpoints and exports."""

import argparse
import dataclasses

import numpy as np
import pytest
import torch
from exported import export_model, weight_shapes
from fairseq import checkpoint_utils
from toys import (
    SMALL,
    batch_of,
    build,
    fairseq_generate,
    fairseq_train,
    lines_of,
    load_task,
    overfit,
    phrase_table,
)

from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.layers.lengths import RatioLength, length_mask
from fairseq_nart.layers.source_map import HardUniformCopy
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.models._warm_start import warm_start
from fairseq_nart.models.nart_enat_e import mean_distance

EOS, PAD = 2, 1
BOTH = pytest.mark.parametrize("arch", ["nart_enat_p_tiny", "nart_enat_e_tiny"])
UNWEIGHTED = ("--alignment-weight", "0", "--adversary-weight", "0")


@pytest.fixture
def batch(task, device):
    sample = batch_of(task, device, rows=6)
    return sample["net_input"]["src_tokens"], sample["target"]


def terms_of(model, batch):
    return {term.name: term for term in model(*batch)}


def translations(model, source, **options):
    engine = Engine(model, eos=EOS, pad=PAD, options=model.Decoding(**options))
    return [[h.tokens.tolist() for h in hypotheses] for hypotheses in engine(source)]


def phrases_of(model, source):
    return [row[row != PAD].tolist() for row in model.encode(source).phrases.cpu()]


# Both systems


@BOTH
def test_model_overfits(arch, task, device):
    torch.manual_seed(0)
    words = ("--embed-dim", "32", "--encoder-layers", "1", "--decoder-layers", "1")
    model, sample = build(task, arch, *words).to(device), batch_of(task, device, rows=6)
    expected = overfit(task, model, sample, updates=200, lr=5e-3)
    best = [h[0] for h in translations(model, sample["net_input"]["src_tokens"])]
    assert best == expected


@BOTH
def test_nothing_depends_on_the_target_but_its_length(arch, task, batch, device):
    """The decoder's input and the features of a target are those of any other as long."""
    source, target = batch
    model, mask = build(task, arch).to(device), target.ne(PAD)
    other = target.masked_fill(mask, 7)
    seen = []
    model.decoder.register_forward_hook(lambda *call: seen.append(call[2]))
    model(source, target)
    model(source, other)
    assert torch.equal(*seen)


@BOTH
def test_padding_side_and_other_sentences_do_not_matter(arch, task, batch, device):
    source, _ = batch
    model = build(task, arch).to(device)
    together = translations(model, source, length_candidates=5)
    width = source.size(1)
    for row, hypotheses in zip(source, together):
        words = row[row != PAD]
        right = torch.full((1, width + 3), PAD, device=device)
        right[0, : len(words)] = words
        left = right.roll(width + 3 - len(words), dims=1)
        assert translations(model, left, length_candidates=5) == [hypotheses]
        assert translations(model, right, length_candidates=5) == [hypotheses]


@BOTH
@pytest.mark.parametrize("head", ["crf", "dcrf"])
def test_output_layer_can_be_a_crf(arch, head, task, batch, device):
    model = build(task, arch, "--output", head, "--crf-candidates", "7").to(device)
    assert "crf_loss" in terms_of(model, batch)
    assert max(map(len, translations(model, batch[0], crf_paths=3))) > 1


@BOTH
def test_options_that_do_not_fit_are_refused(arch, task):
    ratio = ("--length-predictor", "ratio")
    assert isinstance(build(task, arch, *ratio).lengths, RatioLength)
    with pytest.raises(UserError, match=r"length-predictor classifier; ratio has none"):
        build(task, arch, *ratio, "--length-loss-weight", "2")
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        build(task, arch, "--decoder-input", "pad")


@BOTH
def test_checkpoint_alone_decodes(arch, data, tmp_path, capsys):
    """The phrase table's file is not needed, and training resumes."""
    words = ["--arch", arch, *SMALL, "--lr", "1e-2", "--disable-validation", "--bf16"]
    if arch == "nart_enat_p_tiny":
        table = tmp_path / "phrases.tsv"
        table.write_bytes(phrase_table(load_task(data)).read_bytes())
        words += ["--phrase-table", str(table)]
    else:
        words += ["--adversary-warmup", "4"]
    fairseq_train(data, tmp_path / "save", *words, "--max-update", "2")
    saved = fairseq_train(data, tmp_path / "save", *words, "--max-update", "4")
    weights = checkpoint_utils.load_checkpoint_to_cpu(str(saved))["model"]
    if arch == "nart_enat_p_tiny":
        table.unlink()
        assert len(weights["phrases.edges"]) > 10 and weights["phrases.edges"].dtype == torch.int64
    else:
        assert "discriminator.hidden.weight" in weights
    (model,), _ = checkpoint_utils.load_model_ensemble([str(saved)])
    if arch == "nart_enat_p_tiny":
        assert np.array_equal(model.phrases.get().edges, weights["phrases.edges"])
    capsys.readouterr()
    fairseq_generate(data, saved, "--gen-subset", "test")
    assert len(lines_of(capsys.readouterr().out, "H")) == 17


# ENAT-P


def test_decoder_input_is_a_uniform_copy_of_the_phrases(task, batch, device):
    source, target = batch
    model, mask = build(task, "nart_enat_p_tiny").to(device), target.ne(PAD)
    inputs = model.decoder_input(model.encode(source), mask)
    weight = model.decoder.output_projection.weight
    replaced = 0
    for row, real in enumerate(mask):
        phrases, length = phrases_of(model, source[row : row + 1])[0], int(real.sum())
        replaced += phrases != source[row][source[row] != PAD].tolist()
        for i in range(length):
            nearest = min(int(i * len(phrases) / length + 0.5), len(phrases) - 1)
            expected = weight.size(1) ** 0.5 * weight[phrases[nearest]]
            torch.testing.assert_close(inputs[row, i], expected)
    assert replaced == len(mask)


def test_unknown_tokens_become_the_same_symbol(data, tmp_path, task, device):
    """With two dictionaries, whose numbers differ, the symbol counts."""
    model = build(task, "nart_enat_p_tiny").to(device)
    known = {int(i) for i in model.phrases.get().edges if i < len(task.src_dict)}
    others = [i for i in range(4, len(task.src_dict)) if i not in known][:3]
    source = torch.tensor([[*others, EOS]], device=device)
    assert phrases_of(model, source) == [[*others, EOS]]
    twisted = type(task.src_dict)()
    for symbol in reversed(task.src_dict.symbols[5:]):
        twisted.add_symbol(symbol)
    model.phrases.passed = dataclasses.replace(
        model._sides(task), dictionaries=(task.src_dict, twisted)
    ).passed()
    model.phrases.table = None
    passed = [task.src_dict[i] if i > 4 else "<unk>" for i in others]
    assert [twisted[i] for i in phrases_of(model, source)[0]] == [*passed, "</s>"]


def test_phrase_table_is_required_and_must_fit(task, tmp_path):
    with pytest.raises(UserError, match="nart_enat_p needs a phrase table: give --phrase-table"):
        build(task, "nart_enat_p_tiny", "--phrase-table", "")
    with pytest.raises(OSError, match="none"):
        build(task, "nart_enat_p_tiny", "--phrase-table", str(tmp_path / "none"))
    table = tmp_path / "other.tsv"
    header, _, rest = phrase_table(task).read_text("utf-8").partition("\n")
    table.write_text(f"{header[:-1]}x\n{rest}", "utf-8")
    with pytest.raises(UserError, match="other target dictionary, and so with other subwords"):
        build(task, "nart_enat_p_tiny", "--phrase-table", str(table))


def test_warm_start_keeps_the_new_table(task, tmp_path):
    old = build(task, "nart_enat_p_tiny", seed=1)
    table = tmp_path / "short.tsv"
    lines = phrase_table(task).read_text("utf-8").splitlines()[:4]
    table.write_text("\n".join([*lines, ""]), "utf-8")
    new = build(task, "nart_enat_p_tiny", "--phrase-table", str(table))
    kept = new.phrases.get()
    warm_start(new, old.state_dict(), "old.pt")
    assert new.phrases.get() is kept and len(kept.edges) < len(old.phrases.get().edges)
    assert torch.equal(new.encoder.embed_tokens.weight, old.encoder.embed_tokens.weight)


def test_memory_of_the_phrases_is_counted(task):
    model = build(task, "nart_enat_p_tiny", "--embed-dim", "32", "--ffn-embed-dim", "8")
    most, options = model.phrases.get().most_tokens, model.Decoding()
    assert most == 4 and model.row_elements(1, 1000, options) == 4 * 1000 * 32


# ENAT-E


def test_without_weights_it_is_nart_with_a_uniform_copy(task, batch, device):
    words = ("--mask-self-attention-diagonal", "--decoder-input", "hard_uniform")
    nart = build(task, "nart_tiny", *words).to(device)
    enat = build(task, "nart_enat_e_tiny", *UNWEIGHTED, seed=3).to(device).train()
    warm_start(enat, nart.state_dict(), "nart.pt")
    ours, theirs = terms_of(enat, batch), terms_of(nart.train(), batch)
    assert ours.keys() == theirs.keys() and enat.discriminator is None
    for name, term in ours.items():
        torch.testing.assert_close(term.sum, theirs[name].sum)
    assert translations(enat.eval(), batch[0]) == translations(nart.eval(), batch[0])
    with torch.no_grad():
        enat.mapping.weight.mul_(-1)
    assert terms_of(enat, batch)["nar_loss"].sum != ours["nar_loss"].sum


def test_alignment_loss_is_the_distance_of_the_words_means(task, batch, device):
    """Without padding and special symbols, in the decoder's scale on both sides."""
    source, target = batch
    model = build(task, "nart_enat_e_tiny", "--alignment-weight", "0.3").to(device)
    torch.nn.init.normal_(model.mapping.weight)
    term, expected = terms_of(model, batch)["alignment_loss"], 0.0
    for x, y in zip(source, target):
        mapped = model.mapping(model.encoder.embed_tokens(x[x > 3])).mean(dim=0)
        known = model.decoder.output_projection.weight[y[y > 3]].mean(dim=0)
        expected = expected + 16**0.5 * (mapped - known).norm()
    torch.testing.assert_close(term.sum, expected)
    assert (term.weight, term.count) == (0.3, 6)


def test_scales_of_both_embeddings_agree(task, device):
    model = build(task, "nart_enat_e_tiny").to(device)
    tokens = torch.tensor([[4, 5, 6, EOS]], device=device)
    torch.testing.assert_close(model.encode(tokens).embeddings, model.decoder.embed(tokens))


def test_equal_means_have_no_distance_and_finite_gradients(device):
    one = torch.randn(2, 3, 4, device=device, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]], device=device)
    other = one.detach()[:, [1, 0, 0, 2]]  # the same two words in another order, twice the first
    both = torch.tensor([[True, True, False, False], [True] * 4], device=device)
    distance = mean_distance(one, mask, other, both)
    torch.testing.assert_close(distance, torch.zeros(2, device=device))  # the second is empty
    distance.sum().backward()
    assert one.grad.isfinite().all()
    assert mean_distance(one, mask, other, both & False).tolist() == [0, 0]
    assert mean_distance(one, mask, other + 1, both)[0].item() == pytest.approx(2)  # sqrt(4)


def adversary(model, batch, name="adversary_loss"):
    model.zero_grad()
    term = terms_of(model, batch)[name]
    term.sum.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return term, {n: g for n, g in grads.items() if g.any()}


def test_adversary_trains_the_mapping_against_the_discriminator(task, batch, device):
    words = ("--adversary-weight", "0.5", "--adversary-warmup", "10", "--adversary-dim", "8")
    model = build(task, "nart_enat_e_tiny", *words).to(device).train()
    model.set_num_updates(4)
    term, gradients = adversary(model, batch)
    assert gradients.keys() == {
        "mapping.weight",
        *(f"discriminator.{x}.{y}" for x in ("hidden", "output") for y in ("weight", "bias")),
    }
    assert term.weight == 1
    source, target = batch
    mapped = model.mapping(4 * model.encoder.embed_tokens(source[source > 3]))
    known = 4 * model.decoder.output_projection.weight[target[target > 3]]
    judge = model.discriminator
    loss = -(judge(known).sigmoid().log().sum() + (1 - judge(mapped).sigmoid()).log().sum())
    torch.testing.assert_close(term.sum, loss)
    names = [n for n in gradients if n.startswith("discriminator")]
    expected = dict(model.named_parameters())
    forward = torch.autograd.grad(loss, [model.mapping.weight, *map(expected.get, names)])
    torch.testing.assert_close(gradients["mapping.weight"], -0.5 * 0.4 * forward[0])
    for name, gradient in zip(names, forward[1:]):
        torch.testing.assert_close(gradients[name], gradient)
    for updates, factor in ((0, 0), (10, 0.5), (99, 0.5)):
        model.set_num_updates(updates)
        assert model.influence() == factor
    assert "adversary_loss" not in terms_of(model.eval(), batch)


def test_options_of_a_discriminator_need_one(task):
    words = ("--adversary-weight", "0", "--adversary-dim", "8")
    with pytest.raises(UserError, match="--adversary-dim has no effect with --adversary-weight 0"):
        build(task, "nart_enat_e_tiny", *words)


def test_decoding_has_no_discriminator(task, tmp_path):
    model = build(task, "nart_enat_e_tiny", "--adversary-dim", "96")
    assert model.discriminator is not None
    folder = export_model(tmp_path / "model", task, model)
    sizes = {size for shape in weight_shapes(folder) for size in shape}
    assert 96 not in sizes and len(task.tgt_dict) in sizes
    model.drop_training_parts()
    assert not any("discriminator" in name for name in model.state_dict())


def test_exported_phrase_table_has_its_arrays(task, tmp_path):
    model = build(task, "nart_enat_p_tiny")
    folder = export_model(tmp_path / "model", task, model)
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        assert set(file) == {"edges", "starts", "targets", "passed"}
        assert np.array_equal(file["edges"], model.phrases.get().edges)


def test_uniform_copy_reads_all_phrases(device):
    """Three phrases' tokens for six positions: each is copied twice."""
    x = torch.randn(1, 4, 2, device=device)
    mask = torch.tensor([[True, True, True, False]], device=device)
    copied = HardUniformCopy()(
        EncoderStates(x, x, mask, mask), length_mask(torch.tensor([6], device=device), 6)
    )
    assert torch.equal(copied[0], x[0, [0, 1, 1, 2, 2, 2]])

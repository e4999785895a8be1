"""The encoder, compared with fairseq's, and the non-causal decoder."""

from argparse import Namespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel

from fairseq_nart.layers.positions import SinusoidalPositions
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.layers.transformer import Decoder, Encoder, TransformerSize, no_self_mask

PAD, EOS, V, D = 1, 2, 30, 16


def size(normalize_before=False):
    return TransformerSize(D, 32, 4, 0.0, 0.0, 0.0, normalize_before)


def sources(side, device):
    """Three sentences, padded on `side`."""
    lines = [[5, 6, 7, 8, 9, EOS], [10, 11, EOS], [EOS]]
    rows = []
    for line in lines:
        pads = [PAD] * (6 - len(line))
        rows.append(pads + line if side == "left" else line + pads)
    return torch.tensor(rows, device=device)


@pytest.mark.parametrize("normalize_before", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_encoder_equals_fairseq(normalize_before, side, device):
    torch.manual_seed(0)
    dictionary = Dictionary()
    for i in range(V - len(dictionary)):
        dictionary.add_symbol(f"w{i}")
    args = Namespace(
        encoder_embed_dim=D,
        encoder_ffn_embed_dim=32,
        encoder_attention_heads=4,
        encoder_layers=2,
        decoder_layers=1,
        decoder_embed_dim=D,
        decoder_ffn_embed_dim=32,
        decoder_attention_heads=4,
        encoder_normalize_before=normalize_before,
        decoder_normalize_before=normalize_before,
    )
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    teacher = TransformerModel.build_model(args, task).to(device).eval()
    embeddings = torch.nn.Embedding(V, D, PAD)
    ours = Encoder(size(normalize_before), 2, embeddings, PAD).to(device).eval()
    weights = teacher.encoder.state_dict()
    weights.pop("version")
    ours.load_state_dict(weights)
    tokens = sources(side, device)
    mask = tokens.ne(PAD)
    theirs = teacher.encoder(tokens, mask.sum(1))
    expected = theirs["encoder_out"][0].transpose(0, 1)
    states = ours(tokens)
    torch.testing.assert_close(states.embeddings[mask], theirs["encoder_embedding"][0][mask])
    assert torch.equal(states.mask, mask)
    torch.testing.assert_close(states.output[mask], expected[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1024, 1025, 1026, 3000])
def test_positions_grow_with_the_sentence(length, device):
    mask = torch.ones(1, length, dtype=torch.bool, device=device)
    expected = SinusoidalPositions(D, PAD + 1, length=4000).to(device)(mask)
    for compute in (lambda net: net(mask), lambda net: net.up_to(mask)[None]):
        torch.testing.assert_close(compute(SinusoidalPositions(D, PAD + 1).to(device)), expected)


def decoder(device, mask_self=False):
    torch.manual_seed(0)
    return Decoder(size(), 2, None, V, PAD + 1, mask_self).to(device).eval()


def source_states(batch, device):
    mask = torch.ones(batch, 4, dtype=torch.bool, device=device)
    x = torch.randn(batch, 4, D, device=device)
    return EncoderStates(x, x, mask, mask.long())


def test_decoder_is_not_causal(device):
    x, mask = torch.randn(1, 5, D, device=device), torch.ones(1, 5, dtype=torch.bool, device=device)
    source, net = source_states(1, device), decoder(device)
    changed = x.clone()
    changed[0, 4] += 1.0
    difference = (net(changed, mask, source) - net(x, mask, source)).abs().amax(dim=2)
    assert (difference > 1e-4).all()


@pytest.mark.parametrize("mask_self", [False, True])
def test_decoder_ignores_padding(mask_self, device):
    net, source = decoder(device, mask_self), source_states(2, device)
    x = torch.randn(2, 5, D, device=device)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool, device=device)
    batched = net(x, mask, source)
    alone = net(x[1:, :1], mask[1:, :1], source.select(torch.tensor([1], device=device)))
    torch.testing.assert_close(batched[1:, :1], alone, rtol=1e-5, atol=1e-5)


def test_mask_self_changes_the_output(device):
    x, mask = torch.randn(1, 5, D, device=device), torch.ones(1, 5, dtype=torch.bool, device=device)
    source = source_states(1, device)
    with_self, without = (decoder(device, mask_self)(x, mask, source) for mask_self in (0, 1))
    assert (with_self - without).abs().max() > 1e-3


def test_no_self_mask(device):
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.bool, device=device)
    visible = no_self_mask(mask)[:, 0].int().tolist()
    assert visible[0] == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert visible[1][:2] == [[0, 1, 0], [1, 0, 0]]
    assert visible[2][0] == [1, 0, 0], "a single token sees itself"

"""The latent predictor: causal, and the same with a cache as without."""

import pytest
import torch

from fairseq_nart.latent.predictor import LatentPredictor
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.layers.transformer import TransformerSize


@pytest.fixture(params=[False, True], ids=["post-norm", "pre-norm"])
def predictor(request, device):
    torch.manual_seed(2)
    size = TransformerSize(8, 16, 2, 0.0, 0.0, 0.0, normalize_before=request.param)
    return LatentPredictor(size, layers=2, codes=5, first_position=2).to(device).eval()


def source(device, sentences=3):
    torch.manual_seed(4)
    lengths = torch.tensor([4, 2, 3], device=device)[:sentences]
    mask = torch.arange(4, device=device) < lengths[:, None]
    output = torch.randn(sentences, 4, 8, device=device)
    return EncoderStates(output, output, mask, mask.long())


def test_no_latent_depends_on_a_later_one(predictor, device):
    states, vectors = source(device), torch.randn(3, 6, 8, device=device, requires_grad=True)
    logits = predictor.logits(vectors, torch.ones(3, 6, dtype=torch.bool, device=device), states)
    assert logits.shape == (3, 7, 6)
    for place in range(7):
        (gradient,) = torch.autograd.grad(logits[:, place].sum(), vectors, retain_graph=True)
        reached = gradient.abs().sum(dim=(0, 2)) > 0
        assert reached.tolist() == [before < place for before in range(6)]


@pytest.mark.parametrize("candidates", [1, 2])
def test_cached_equals_uncached(candidates, predictor, device):
    """Also if several candidates share a source."""
    states, rows = source(device), 3 * candidates
    vectors = torch.randn(rows, 5, 8, device=device)
    mask = torch.ones(rows, 5, dtype=torch.bool, device=device)
    expected = predictor.logits(vectors, mask, states.repeat_to(rows))
    memory = predictor.memory(states.output)
    cache = memory.new_zeros(rows, 0, memory.size(2))
    assert memory.size(2) == predictor.width
    x = predictor.start_vector.expand(rows, -1)
    for place in range(6):
        logits, cache = predictor.step(x, cache, memory, states.mask)
        torch.testing.assert_close(logits, expected[:, place], rtol=1e-4, atol=1e-5)
        x = vectors[:, min(place, 4)]


def test_padding_changes_nothing(predictor, device):
    states, vectors = source(device), torch.randn(3, 4, 8, device=device)
    lengths = torch.tensor([4, 1, 2], device=device)
    mask = torch.arange(4, device=device) < lengths[:, None]
    together = predictor.logits(vectors, mask, states)
    for row, length in enumerate(lengths.tolist()):
        one = states.select(slice(row, row + 1))
        alone = predictor.logits(vectors[row : row + 1, :length], mask[row : row + 1, :length], one)
        torch.testing.assert_close(together[row, : length + 1], alone[0], rtol=1e-4, atol=1e-5)

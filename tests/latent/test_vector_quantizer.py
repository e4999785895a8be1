"""Vector quantisation: nearest codes, soft EM, moving averages, slices, revival."""

import copy

import pytest
import torch

from fairseq_nart.latent.vector_quantizer import EPSILON, IDLE, VectorQuantizer


def build(device, bits=3, slices=1, samples=0, decay=0.9, dim=4):
    torch.manual_seed(3)
    quantizer = VectorQuantizer(dim, bits, slices, samples, decay).to(device).eval()
    quantizer.idle.zero_()  # otherwise the first batch replaces unused code vectors
    return quantizer


def latents(device, sentences=5, length=6, dim=4, seed=1):
    torch.manual_seed(seed)
    z = torch.randn(sentences, length, dim, device=device)
    lengths = torch.arange(sentences, device=device) % length + 1
    return z, torch.arange(length, device=device) < lengths[:, None]


def enumerated(vector, codebook):
    """The nearest code vector of each slice, by comparing with all of them."""
    digits = []
    for part, vectors in zip(vector.chunk(len(codebook)), codebook, strict=True):
        digits.append(min(range(len(vectors)), key=lambda k: (part - vectors[k]).norm().item()))
    return digits


@pytest.mark.parametrize("bits, slices", [(3, 1), (4, 2), (4, 4)])
def test_each_slice_takes_its_nearest_code_vector(bits, slices, device):
    quantizer = build(device, bits, slices)
    z, mask = latents(device)
    quantized, codebook = quantizer(z, mask), quantizer.codebook()
    assert codebook.shape == (slices, 2 ** (bits // slices), 4 // slices)
    for b, m in mask.nonzero().tolist():
        digits = enumerated(z[b, m], codebook)
        code = sum(d * len(codebook[0]) ** place for place, d in enumerate(digits))
        assert quantized.labels[b, m].tolist() == [code]
        expected = torch.cat([codebook[s, d] for s, d in enumerate(digits)])
        torch.testing.assert_close(quantized.vectors[b, m], expected)
    torch.testing.assert_close(quantizer.embed(quantized.labels[..., 0]), quantized.vectors)
    distance = (z - quantized.vectors).square().mean(dim=2)[mask].sum()
    torch.testing.assert_close(quantized.commitment, distance)


def test_all_codes_of_slices_differ(device):
    quantizer = build(device, bits=4, slices=2)
    vectors = quantizer.embed(torch.arange(16, device=device))
    assert len({tuple(row) for row in vectors.tolist()}) == 16


def test_gradient_is_straight_through_and_commitment_pulls(device):
    quantizer, (z, mask) = build(device), latents(device)
    z.requires_grad_()
    quantized = quantizer(z, mask)
    direction = torch.randn(z.shape, device=device)
    (gradient,) = torch.autograd.grad((quantized.vectors * direction).sum(), z, retain_graph=True)
    assert torch.equal(gradient, direction)
    (gradient,) = torch.autograd.grad(quantized.commitment, z)
    expected = 2 * (z - quantized.vectors).detach() / z.size(2) * mask[..., None]
    torch.testing.assert_close(gradient, expected)
    assert not any(True for _ in quantizer.parameters())


def closed_form(quantizer, batches, decay):
    """Counts and sums after hard assignments of several batches, code by code."""
    counts, sums = quantizer.counts[0].clone(), quantizer.sums[0].clone()
    for z, mask in batches:
        all_ = counts.sum()
        vectors = sums / ((counts + EPSILON) / (all_ + len(counts) * EPSILON) * all_)[:, None]
        used, added = torch.zeros_like(counts), torch.zeros_like(sums)
        for vector in z[mask]:
            code = (vector - vectors).norm(dim=1).argmin()
            used[code] += 1
            added[code] += vector
        counts = decay * counts + (1 - decay) * used
        sums = decay * sums + (1 - decay) * added
    return counts, sums


def test_moving_averages_equal_their_closed_form(device):
    quantizer = build(device)
    assert torch.equal(quantizer.counts, torch.ones_like(quantizer.counts))
    batches = [latents(device, seed=seed) for seed in range(4)]
    counts, sums = closed_form(quantizer, batches, 0.9)
    quantizer.train()
    for z, mask in batches:
        quantizer(z, mask)
    torch.testing.assert_close(quantizer.counts[0], counts)
    torch.testing.assert_close(quantizer.sums[0], sums)


def test_statistics_stay_in_fp32_in_a_bf16_model(device):
    """A decay of 0.999 would change nothing in bf16."""
    high = build(device, decay=0.999)
    low, batches = copy.deepcopy(high).bfloat16(), [latents(device, seed=s) for s in range(3)]
    assert torch.equal(low.sums, high.sums)
    for quantizer in (high.train(), low.train()):
        for z, mask in batches:
            vectors = quantizer(z.bfloat16().to(z if quantizer is high else torch.bfloat16), mask)
            assert vectors.vectors.dtype == (z.dtype if quantizer is high else torch.bfloat16)
    for name, buffer in low.named_buffers():
        assert buffer.dtype == torch.float32
        torch.testing.assert_close(buffer, dict(high.named_buffers())[name])
    before = build(device, decay=0.999).counts
    assert 0 < (low.counts - before).abs().max() < 0.03


def test_evaluation_changes_no_statistics(device):
    quantizer = build(device, samples=10)
    before = copy.deepcopy(quantizer.state_dict())
    z, mask = latents(device)
    assert torch.equal(quantizer(z, mask).labels, quantizer(z, mask).labels)
    for name, buffer in quantizer.state_dict().items():
        assert torch.equal(buffer, before[name])
    quantizer.train()(z, mask)
    assert not torch.equal(quantizer.counts, before["counts"])


def test_padding_changes_no_statistics(device):
    one, two = build(device).train(), build(device).train()
    z, mask = latents(device)
    one(z, mask)
    two(z.masked_fill(~mask[..., None], 100.0), mask)
    for name, buffer in two.state_dict().items():
        assert torch.equal(buffer, one.state_dict()[name])


def test_soft_em_samples_codes_by_their_distance(device):
    """Frequencies of the samples are softmax(-distance); the vector is the mean of the samples."""
    quantizer = build(device, bits=2, samples=40).train()
    z, mask = latents(device, sentences=1, length=1)
    z, mask = 0.5 * z.expand(500, -1, -1), mask.expand(500, -1)
    codebook = quantizer.codebook()[0]
    quantized = quantizer(z, mask)
    labels = quantized.labels[:, 0]  # (500,40)
    torch.testing.assert_close(quantized.vectors[:, 0], codebook[labels].mean(dim=1))
    expected = (-(z[0, 0] - codebook).square().sum(dim=1)).softmax(dim=0)
    actual = torch.bincount(labels.flatten(), minlength=4) / labels.numel()
    torch.testing.assert_close(actual, expected, atol=0.02, rtol=0)
    counts = 0.9 + 0.1 * 500 * actual
    torch.testing.assert_close(quantizer.counts[0], counts)


def test_soft_em_tends_to_k_means(device):
    """Far from each other, the nearest code vector has all samples."""
    soft, hard = build(device, samples=10), build(device)
    for quantizer in (soft, hard):
        quantizer.sums.mul_(100)
    z, mask = latents(device)
    labels = soft.train()(100 * z, mask).labels
    assert torch.equal(labels, hard(100 * z, mask).labels.expand_as(labels))


def test_unused_code_vectors_are_replaced_by_latents(device):
    quantizer = build(device).train()
    quantizer.sums[0, 5:] = 1e3  # three that nothing is near to
    z, mask = latents(device)
    for _ in range(IDLE - 1):
        quantizer(z, mask)
    quantizer.revives = False
    quantizer(z, mask)
    assert (quantizer.codebook()[0, 5:] > 100).all()
    quantizer.revives = True
    quantizer(z, mask)
    fresh = quantizer.codebook()[0, 5:]
    real = z[mask]
    for vector in fresh:
        assert (vector - real).norm(dim=1).min() < 1e-3
    assert quantizer.counts[0, 5:].tolist() == [1.0] * 3
    assert (quantizer.codebook()[0].abs() < 10).all()


def test_the_first_batch_replaces_random_code_vectors(device):
    quantizer = VectorQuantizer(4, 5, 1, 0, 0.9).to(device).train()
    z, mask = latents(device)
    before = quantizer.codebook()[0]
    used = quantizer.eval()(z, mask).labels[mask].unique()
    quantizer.train()(z, mask)
    replaced = [
        (vector - z[mask]).norm(dim=1).argmin().item()
        for code, vector in enumerate(quantizer.codebook()[0])
        if code not in used and (vector - z[mask]).norm(dim=1).min() < 1e-3
    ]
    # Each latent of the batch serves once, so some codes wait for the next one.
    assert sorted(replaced) == list(range(mask.sum()))
    waiting = (quantizer.codebook()[0] - before).norm(dim=1) < 1e-3
    assert waiting.sum() == 32 - len(used) - len(replaced) > 0
    quantizer(*latents(device, seed=2))
    assert not ((quantizer.codebook()[0] - before).norm(dim=1) < 1e-3)[waiting].all()


def test_perplexity_counts_the_codes_in_use(device):
    quantizer = build(device, bits=3).train()
    codebook = quantizer.codebook()[0]
    z = codebook[:4].repeat(3, 1)[None]
    quantizer(z, torch.ones(1, 12, dtype=torch.bool, device=device))
    assert quantizer.usage.perplexity().item() == pytest.approx(4.0, rel=1e-4)
    assert VectorQuantizer(4, 3, 1, 0, 0.9).usage.perplexity().item() == pytest.approx(1.0)


def test_one_code_is_degenerate_but_works(device):
    quantizer = build(device, bits=0).train()
    z, mask = latents(device)
    assert not quantizer(z, mask).labels.any()
    expected = 0.9 + 0.1 * mask.sum().item()
    assert quantizer.counts.item() == pytest.approx(expected)

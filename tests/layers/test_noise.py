"""Noise that is the same on every machine."""

import math

import numpy as np
import pytest

from fairseq_nart.layers.noise import BLOCK, TABLE, gumbel, offsets, table


def test_noise_has_these_values():
    """Exported models and checkpoints of any release draw the same fertilities."""
    first = [0.7961864471435547, -0.2701214551925659, -1.1615335941314697, -1.411650538444519]
    assert gumbel(0, 0, 50)[0, :4].tolist() == pytest.approx(first, abs=1e-6)
    last = [-0.429309219121933, 1.459364652633667]
    assert gumbel(3, 2, 7)[-1, -2:].tolist() == pytest.approx(last, abs=1e-6)


def test_noise_follows_the_gumbel_distribution():
    """Its mean, its variance, and the whole distribution function at some points."""
    every = [gumbel(number, block, 50) for number in range(20) for block in range(3)]
    noise = np.concatenate(every).astype(np.float64).reshape(-1)
    assert noise.shape == (60 * BLOCK * 50,) and np.isfinite(noise).all()
    error = 5 / math.sqrt(noise.size)
    variance = math.pi**2 / 6
    assert abs(noise.mean() - np.euler_gamma) < error * math.sqrt(variance)
    fourth = variance**2 * 5.4  # kurtosis of a Gumbel distribution
    assert abs(noise.var() - variance) < error * math.sqrt(fourth - variance**2)
    for point in (-1, 0, 1, 4):
        assert abs((noise < point).mean() - math.exp(-math.exp(-point))) < error / 2


def test_samples_and_blocks_have_noise_of_their_own():
    blocks = [gumbel(number, block, 50) for number in range(4) for block in range(4)]
    assert len({block.tobytes() for block in blocks}) == 16


def test_places_in_the_table_have_these_values():
    """More samples keep the first ones; all noise of a sample is in the table."""
    assert len(table()) == TABLE
    few, many = offsets(3, 1, 1025), offsets(4000, 1, 1025)
    assert few.tolist() == [174676, 667456, 615789] == many[:3].tolist()
    assert many.min() >= 0 and many.max() + 1025 <= TABLE
    assert len(set(many)) > 3900 and not set(many[:100]) & set(offsets(100, 2, 1025))
    assert abs(many.mean() / TABLE - 0.5) < 0.03

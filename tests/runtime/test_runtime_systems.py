"""What the systems of the runtime compute themselves equals the plugin."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_nart.generation.stopping import STOPPING_RULES
from fairseq_nart.layers import fertility as plugin
from fairseq_nart.layers.lengths import candidate_window
from fairseq_nart.layers.masking import lowest as plugin_lowest
from fairseq_nart.runtime import by_length, fertility, mask_predict, refinement

few = settings(max_examples=60, deadline=None)


@st.composite
def masks(draw, most=8):
    """(R,T) bool, True on the first positions of each row, at least one."""
    lengths = draw(st.lists(st.integers(1, most), min_size=1, max_size=4))
    return np.arange(max(lengths)) < np.array(lengths)[:, None]


@given(
    st.lists(st.integers(-3, 12), min_size=1, max_size=4),
    st.sampled_from([1, 3, 9, 10**12 + 1]),
    st.integers(1, 9),
)
def test_window_of_lengths_equals_the_plugin(lengths, candidates, longest):
    clamped = np.clip(np.array(lengths), 1, longest)
    found = by_length.window(clamped, candidates, longest)
    expected = candidate_window(torch.tensor(lengths), candidates, longest)
    assert [x.tolist() for x in found] == [x.tolist() for x in expected]


@few
@given(masks(), st.data())
def test_lowest_equals_the_plugin(mask, data):
    """With equal keys, of which the left ones count."""
    cells = st.lists(st.integers(0, 3), min_size=mask.size, max_size=mask.size)
    keys = np.array(data.draw(cells), np.float32).reshape(mask.shape)
    count = mask.sum(axis=1) * data.draw(st.integers(0, 4)) // 4
    found = mask_predict.lowest(keys, mask, count)
    assert found.sum(axis=1).tolist() == count.tolist() and not (found & ~mask).any()
    expected = plugin_lowest(*map(torch.from_numpy, (keys, mask, count)))
    assert found.tolist() == expected.tolist()


@few
@given(masks(most=4), st.sampled_from([x for x in STOPPING_RULES.values() if x]), st.data())
def test_ended_equals_the_plugin(mask, rule, data):
    """Of two words, so that outputs recur often; what stands at padding does not matter."""
    shape = (len(mask), rule.window, mask.shape[1])
    size = int(np.prod(shape))
    words = data.draw(st.lists(st.integers(5, 6), min_size=size, max_size=size))
    outputs = np.array(words).reshape(shape)
    found = refinement.ended(outputs, mask, rule.in_order)
    assert found.tolist() == rule.ended(torch.from_numpy(outputs), torch.from_numpy(mask)).tolist()


@few
@given(st.integers(0, 2**20), masks())
def test_fertilities_equal_the_plugin(seed, mask):
    """Samples are equal because both use the noise of `layers.noise`."""
    noise = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(*mask.shape, plugin.CLASSES, generator=noise)
    arrays, tensor = logits.numpy(), torch.from_numpy(mask)
    assert fertility.rounded_mean(arrays).tolist() == plugin.average(logits).tolist()
    found = fertility.sample(arrays, mask, 3)
    assert found.tolist() == plugin.sample(logits, tensor, 3).tolist()
    for longest in (1, 5, 1024):
        valid = fertility.make_valid(found, mask, longest)
        assert valid.tolist() == plugin.make_valid(torch.tensor(found), tensor, longest).tolist()
        totals = valid.sum(axis=2)
        assert (totals >= 1).all() and (totals <= longest).all()
        flat, width = valid.reshape(-1, mask.shape[1]), int(totals.max())
        index = fertility.copy_index(flat, width)
        expected = plugin.copy_index(torch.from_numpy(flat), width).numpy()
        copied = np.arange(width) < flat.sum(axis=1)[:, None]
        assert (index[copied] == expected[copied]).all()


def test_samples_of_long_sources_equal_the_plugin():
    """Of more than one block of noise."""
    logits = torch.randn(2, 150, plugin.CLASSES, generator=torch.Generator().manual_seed(0))
    mask = np.arange(150) < np.array([[150], [70]])
    found = fertility.sample(logits.numpy(), mask, 2)
    expected = plugin.sample(logits, torch.from_numpy(mask), 2).numpy()
    every = np.repeat(mask[:, None], 2, axis=1)
    assert (found[every] == expected[every]).all()


def test_no_samples_are_drawn_for_one_candidate():
    assert fertility.sample(np.zeros((2, 3, 50), np.float32), np.ones((2, 3), bool), 0).size == 0

"""The difference of two passes, compared with torch's own KL divergence."""

import torch
from torch.nn.functional import kl_div

from fairseq_nart.ctc.consistency import consistency

B, F, V = 3, 5, 7


def example(device):
    torch.manual_seed(0)
    logits = torch.randn(2 * B, F, V, device=device, dtype=torch.float64)
    blank = torch.randn(2 * B, F, device=device, dtype=torch.float64)
    mask = torch.arange(F, device=device) < torch.tensor([5, 3, 1] * 2, device=device)[:, None]
    return logits.requires_grad_(), blank.requires_grad_(), mask


def test_value_and_gradient_equal_the_definition(device):
    logits, blank, mask = example(device)
    result = consistency(logits, blank, mask)
    given = torch.autograd.grad(3 * result, (logits, blank))
    scores = torch.cat([logits, blank[..., None]], dim=2).log_softmax(dim=2)
    one, other = scores[:B], scores[B:]
    expected = 0.5 * sum(
        kl_div(x, y.detach(), reduction="none", log_target=True).sum(dim=2)[mask[:B]].sum()
        for x, y in ((one, other), (other, one))
    )
    torch.testing.assert_close(result, expected)
    for ours, theirs in zip(given, torch.autograd.grad(3 * expected, (logits, blank))):
        torch.testing.assert_close(ours, theirs)
        assert not ours[~mask].any() and ours[mask].all()


def test_equal_passes_have_no_difference(device):
    logits, blank, mask = (x.detach() for x in example(device))
    logits, blank = logits[:B].repeat(2, 1, 1), blank[:B].repeat(2, 1)
    assert consistency(logits, blank, mask) == 0


def test_half_precision_is_summed_in_fp32(device):
    logits, blank, mask = (x.detach() for x in example(device))
    half = consistency(logits.bfloat16(), blank.bfloat16(), mask)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, consistency(logits, blank, mask).float(), rtol=0.05, atol=0)

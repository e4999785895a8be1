"""LinearChainCRF: distribution, initialization, gradients and two independent references."""

from __future__ import annotations

import math
import types
from typing import Any

import pytest
import torch
from enumeration import all_paths, all_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fairseq_nart.crf import LinearChainCRF, chain
from fairseq_nart.crf.candidates import top_candidates
from fairseq_nart.crf.transitions import DynamicLowRankTransitions, LowRankTransitions

few = settings(max_examples=30, deadline=None)
WIDTH = 3


class Case:
    """A layer with random parameters and a ragged batch (B=3, T, V)."""

    def __init__(
        self,
        device: torch.device,
        dynamic: bool = False,
        vocab_size: int = 5,
        candidates: int = 5,
        length: int = 4,
        seed: int = 0,
        fresh: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        torch.manual_seed(seed)
        self.crf = LinearChainCRF(vocab_size, 2, candidates, dynamic, WIDTH if dynamic else None)
        if not fresh:
            for parameter in self.crf.parameters():
                torch.nn.init.normal_(parameter)
        self.crf.to(device, dtype)
        self.emissions = torch.randn(3, length, vocab_size, dtype=dtype).to(device)
        self.targets = torch.randint(vocab_size, (3, length)).to(device)
        lengths = torch.randint(1, length + 1, (3, 1))
        self.mask = (torch.arange(length) < lengths).to(device)
        self.states = torch.randn(3, length, WIDTH, dtype=dtype).to(device) if dynamic else None

    def log_likelihood(self, emissions: Tensor | None = None) -> Tensor:
        emissions = self.emissions if emissions is None else emissions
        return self.crf.log_likelihood(emissions, self.targets, self.mask, self.states)

    def full_transitions(self) -> Tensor:
        """The definition, over the whole vocabulary and in loops: (B, T-1, V, V)."""
        t = self.crf.transitions
        source, target = t.source.weight, t.target.weight
        batch, length, size = self.emissions.shape
        full = self.emissions.new_zeros(batch, length - 1, size, size)
        for b in range(batch):
            for i in range(length - 1):
                middle = torch.eye(2).to(source)
                if isinstance(t, DynamicLowRankTransitions):
                    assert self.states is not None
                    both = torch.cat([self.states[b, i], self.states[b, i + 1]])
                    hidden = (t.f[0].weight @ both + t.f[0].bias).clamp(min=0)
                    middle = (t.f[2].weight @ hidden + t.f[2].bias).view(2, 2)
                full[b, i] = source @ middle @ target.T
        return full.detach()


def inside(ids: Tensor, paths: list[tuple[int, ...]]) -> Tensor:
    """Which paths (P,) stay within the candidates ``ids`` (T, K) of a sentence."""
    kept = [set(position) for position in ids.tolist()]
    return torch.tensor([all(y in kept[i] for i, y in enumerate(path)) for path in paths])


def best_of(crf: LinearChainCRF, *of: Tensor | None) -> tuple[Tensor, ...]:
    """Log-probabilities and tokens of the best path, tokens of the two best."""
    lattice = crf.lattice(*of)  # type: ignore[arg-type]
    _, path = lattice.best_path()
    return lattice.log_probs(path), lattice.tokens(path), lattice.tokens(lattice.k_best(2)[1])


cases = st.fixed_dictionaries(
    {
        "dynamic": st.booleans(),
        "vocab_size": st.integers(1, 5),
        "candidates": st.integers(1, 6),
        "length": st.integers(1, 5),
        "seed": st.integers(0, 2**20),
    }
)


@few
@given(options=cases)
def test_equals_enumeration_over_candidates(device: torch.device, options: dict[str, Any]) -> None:
    case = Case(device, **options)
    actual = case.log_likelihood()
    assert (actual <= 0).all()
    scores, tokens = case.crf.decode(case.emissions, case.mask, case.states)
    lattice = case.crf.lattice(case.emissions, case.mask, case.states)
    three, paths_of_three = lattice.k_best(3)
    triples, along = lattice.tokens(paths_of_three), lattice.log_probs(paths_of_three)
    best, path = lattice.best_path()
    log_probs, same = lattice.log_probs(path), lattice.tokens(path)
    assert torch.equal(best, scores)
    assert_close(lattice.log_likelihood(path), best - lattice.log_partition())
    assert_close(along[:, 0], log_probs)
    finite = three > -math.inf
    assert_close(
        (along.sum(dim=2) - along[:, :1].sum(dim=2))[finite], (three - three[:, :1])[finite]
    )
    assert torch.equal(tokens, same) and (tokens[~case.mask] == 0).all()
    assert_close(three[:, 0], scores)
    assert torch.equal(triples[:, 0], tokens)
    full = case.full_transitions()
    forced = top_candidates(case.emissions, options["candidates"], case.targets)
    free = top_candidates(case.emissions, options["candidates"])
    for row, length in enumerate(case.mask.sum(dim=1).tolist()):
        paths = all_paths(options["vocab_size"], length)
        expected = all_scores(case.emissions[row], full[row], length)

        target = expected[paths.index(tuple(case.targets[row, :length].tolist()))]
        log_z = torch.logsumexp(expected[inside(forced[row], paths)], dim=0)
        assert_close(actual[row].cpu(), target - log_z, rtol=1e-9, atol=1e-9)
        reached = expected.masked_fill(~inside(free[row], paths), -math.inf)
        order = reached.argsort(descending=True)[:3]
        order = order[reached[order] > -math.inf]
        assert_close(three[row, : len(order)].cpu(), reached[order])
        for rank, best in enumerate(order):
            assert tuple(triples[row, rank, :length].tolist()) == paths[best]
        own = log_probs[row].sum().cpu()
        assert_close(own, reached.max() - torch.logsumexp(reached, dim=0), rtol=1e-9, atol=1e-9)
    assert (log_probs <= 0).all() and (log_probs[~case.mask] == 0).all()


@pytest.mark.parametrize("dynamic", [False, True])
def test_distribution_sums_to_one(device: torch.device, dynamic: bool) -> None:
    case = Case(device, dynamic, vocab_size=4, length=3)
    mask = torch.ones(64, 3, dtype=torch.bool, device=device)
    every = torch.tensor(all_paths(4, 3)).to(device)
    states = None if case.states is None else case.states[:1].expand(64, -1, -1)
    actual = case.crf.log_likelihood(case.emissions[:1].expand(64, -1, -1), every, mask, states)
    assert_close(actual.exp().sum().item(), 1.0, rtol=1e-9, atol=1e-9)


@few
@given(options=cases, scale=st.sampled_from([1.0, 1e3]))
def test_log_likelihood_never_above_zero(
    device: torch.device, options: dict[str, Any], scale: float
) -> None:
    case = Case(device, dtype=torch.float32, **options)
    emissions = scale * case.emissions
    assert (case.log_likelihood(emissions) <= 0).all()
    # the most and the least probable tokens as the reference
    for case.targets in (emissions.argmax(dim=2), emissions.argmin(dim=2)):
        assert (case.log_likelihood(emissions) <= 0).all()


@few
@given(options=cases)
def test_log_partition_grows_with_candidates(device: torch.device, options: dict[str, Any]) -> None:
    case = Case(device, **options)
    previous = torch.full((3,), math.inf, dtype=torch.float64, device=device)
    for case.crf.candidates in range(1, 6):
        # the reference score is the same for all K
        current = case.log_likelihood()
        assert (current <= previous + 1e-9).all()
        previous = current


@pytest.mark.parametrize("dynamic", [False, True])
def test_fresh_layer_is_independent(device: torch.device, dynamic: bool) -> None:
    case = Case(device, dynamic, fresh=True)
    normal = torch.log_softmax(case.emissions, dim=2)
    reference = normal.gather(2, case.targets.unsqueeze(2)).squeeze(2)
    assert_close(case.log_likelihood(), reference.masked_fill(~case.mask, 0).sum(dim=1))
    tokens = case.crf.decode(case.emissions, case.mask, case.states)[1]
    assert torch.equal(tokens, case.emissions.argmax(dim=2).masked_fill(~case.mask, 0))
    lattice = case.crf.lattice(case.emissions, case.mask, case.states)
    log_probs = lattice.log_probs(lattice.best_path()[1])
    assert_close(log_probs, normal.max(dim=2).values.masked_fill(~case.mask, 0))


def test_defaults_are_those_of_the_paper() -> None:
    crf = LinearChainCRF(5)
    assert (crf.candidates, crf.transitions.rank) == (64, 32)
    assert repr(crf).startswith("LinearChainCRF(\n  candidates=64\n")


def test_smallest_sizes() -> None:
    crf = LinearChainCRF(1, rank=1, candidates=1, dynamic=True, state_dim=1)
    ids, mask = torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool)
    assert (crf.log_likelihood(torch.zeros(2, 3, 1), ids, mask, torch.ones(2, 3, 1)) == 0).all()


def test_initial_scale() -> None:
    torch.manual_seed(0)
    transitions = LowRankTransitions(2000, 16)
    assert abs(transitions.source.weight.std().item() - 0.25) < 0.01
    assert (transitions.target.weight == 0).all()


def test_dynamic_starts_as_static(device: torch.device) -> None:
    static, dynamic = Case(device), Case(device, dynamic=True, fresh=True)
    result = dynamic.crf.load_state_dict(static.crf.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys == [
        f"transitions.f.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    ]
    dynamic.emissions, dynamic.targets = static.emissions, static.targets
    dynamic.mask = static.mask
    assert_close(dynamic.log_likelihood(), static.log_likelihood())
    assert static.log_likelihood().std() > 0


@pytest.mark.parametrize("dynamic", [False, True])
def test_one_candidate_decodes_argmax(device: torch.device, dynamic: bool) -> None:
    case = Case(device, dynamic, candidates=1)
    tokens = case.crf.decode(case.emissions, case.mask, case.states)[1]
    assert torch.equal(tokens, case.emissions.argmax(dim=2).masked_fill(~case.mask, 0))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("candidates", [3, 5])
def test_gradients(device: torch.device, dynamic: bool, candidates: int) -> None:
    case = Case(device, dynamic, candidates=candidates)
    case.emissions.requires_grad_()
    names = [name for name, _ in case.crf.named_parameters()]
    inputs: list[Tensor] = [case.emissions, *case.crf.parameters()]

    def value(emissions: Tensor, *parameters: Tensor) -> Tensor:
        arguments = (emissions, case.targets, case.mask, case.states)
        wrapped = Likelihood(case.crf)
        named = {f"crf.{name}": parameter for name, parameter in zip(names, parameters)}
        result: Tensor = torch.func.functional_call(wrapped, named, arguments)
        return result

    assert torch.autograd.gradcheck(value, inputs)


class Likelihood(torch.nn.Module):
    def __init__(self, crf: LinearChainCRF) -> None:
        super().__init__()
        self.crf = crf

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.crf.log_likelihood(*arguments)


def test_gradient_of_emissions(device: torch.device) -> None:
    case = Case(device, candidates=3)
    case.emissions.requires_grad_()
    (-case.log_likelihood()).sum().backward()
    ids = top_candidates(case.emissions, 3, case.targets)
    unary, _ = chain.marginals(case.emissions.gather(2, ids), case.crf.transitions(ids), case.mask)
    expected = torch.zeros_like(case.emissions).scatter(2, ids, unary.detach())
    expected -= torch.nn.functional.one_hot(case.targets, 5) * case.mask.unsqueeze(2)
    assert_close(case.emissions.grad, expected, rtol=1e-9, atol=1e-9)
    outside = torch.ones_like(expected, dtype=torch.bool).scatter(2, ids, False)
    assert (case.emissions.grad[outside] == 0).all()
    assert (case.emissions.grad[~case.mask] == 0).all()


@pytest.mark.parametrize("dynamic", [False, True])
def test_padding_and_batches_do_not_matter(device: torch.device, dynamic: bool) -> None:
    case = Case(device, dynamic, candidates=3, seed=2)
    pad = torch.nn.functional.pad
    longer = Case(device, dynamic, candidates=3)
    longer.crf = case.crf
    longer.emissions = pad(case.emissions, (0, 0, 0, 2), value=3.0)
    longer.targets, longer.mask = pad(case.targets, (0, 2)), pad(case.mask, (0, 2))
    longer.states = None if case.states is None else pad(case.states, (0, 0, 0, 2), value=5.0)
    assert_close(longer.log_likelihood(), case.log_likelihood())
    short = best_of(case.crf, case.emissions, case.mask, case.states)
    long = best_of(case.crf, longer.emissions, longer.mask, longer.states)
    assert_close(long[0][:, :4], short[0])
    assert torch.equal(long[1][:, :4], short[1])
    for row in range(3):
        n = int(case.mask[row].sum())
        states = None if case.states is None else case.states[row : row + 1, :n]
        own = (case.emissions[row : row + 1, :n], case.mask[row : row + 1, :n])
        alone = best_of(case.crf, *own, states)
        assert_close(alone[0][0], short[0][row, :n])
        assert torch.equal(alone[1][0], short[1][row, :n])
    assert not case.mask.all()
    real = case.emissions[case.mask]
    every = best_of(case.crf, case.emissions, case.mask, case.states)
    for mine, theirs in zip(best_of(case.crf, real, case.mask, case.states), every):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(device: torch.device, dynamic: bool, dtype: torch.dtype) -> None:
    case = Case(device, dynamic, candidates=3, dtype=dtype)
    low = case.log_likelihood(case.emissions.requires_grad_())
    low.sum().backward()
    assert low.dtype == torch.float32 and case.emissions.grad.dtype == dtype
    for parameter in case.crf.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    assert case.emissions.grad.isfinite().all()
    case.crf.float()
    case.emissions = case.emissions.detach().float()
    case.states = None if case.states is None else case.states.float()
    assert_close(low, case.log_likelihood(), rtol=5e-2, atol=5e-2)


def test_autocast_keeps_transitions_in_single_precision(device: torch.device) -> None:
    case = Case(device, dtype=torch.float32)
    expected = case.log_likelihood()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert torch.equal(case.log_likelihood(), expected)
    for dynamic in (False, True):
        case = Case(device, dynamic, dtype=torch.float32)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            lattice = case.crf.lattice(case.emissions, case.mask, case.states)
            assert case.log_likelihood().dtype == lattice.transitions.dtype == torch.float32


def test_equals_pytorch_crf(device: torch.device) -> None:
    torchcrf = pytest.importorskip("torchcrf")
    case = Case(device)
    theirs = torchcrf.CRF(5, batch_first=True).to(device).double()
    torch.nn.init.zeros_(theirs.start_transitions)
    torch.nn.init.zeros_(theirs.end_transitions)
    t = case.crf.transitions
    with torch.no_grad():
        theirs.transitions.copy_(t.source.weight @ t.target.weight.T)
    expected = theirs(case.emissions, case.targets, mask=case.mask, reduction="none")
    assert_close(case.log_likelihood(), expected, rtol=1e-9, atol=1e-9)
    tokens = case.crf.decode(case.emissions, case.mask)[1]
    for row, best in enumerate(theirs.decode(case.emissions, mask=case.mask)):
        assert tokens[row, : len(best)].tolist() == best


@pytest.mark.parametrize("candidates", [3, 5])
def test_equals_fairseq(
    device: torch.device, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("fairseq.modules.dynamic_crf_layer")
    # it uses np.float, which NumPy has removed
    monkeypatch.setattr(module, "np", types.SimpleNamespace(float=float))
    case = Case(device, candidates=candidates)
    theirs = module.DynamicCRF(5, low_rank=2, beam_size=candidates).to(device).double()
    t = case.crf.transitions
    theirs.load_state_dict({"E1.weight": t.source.weight, "E2.weight": t.target.weight})
    expected = theirs(case.emissions, case.targets, case.mask)
    # it computes each log-sum-exp in float32, whatever the input
    assert_close(case.log_likelihood(), expected, rtol=1e-5, atol=1e-5)
    scores, tokens = theirs.forward_decoder(case.emissions, case.mask)
    own_scores, own_tokens = case.crf.decode(case.emissions, case.mask)
    assert torch.equal(own_tokens, tokens.masked_fill(~case.mask, 0))
    # its scores are the growth of the best score per position; they sum to the path's
    assert_close(own_scores, scores.sum(dim=1))


def test_error_messages(device: torch.device) -> None:
    with pytest.raises(ValueError, match="candidates: expected at least 1, found 0"):
        LinearChainCRF(5, candidates=0)
    with pytest.raises(ValueError, match="rank: expected at least 1, found 0"):
        LinearChainCRF(5, rank=0)
    with pytest.raises(ValueError, match="vocab_size: expected at least 1, found 0"):
        LinearChainCRF(0)
    with pytest.raises(
        ValueError, match=r"^state_dim: expected the width of the states, found None$"
    ):
        LinearChainCRF(5, dynamic=True)
    with pytest.raises(ValueError, match="state_dim: expected at least 1, found 0"):
        LinearChainCRF(5, dynamic=True, state_dim=0)
    with pytest.raises(ValueError, match="hidden_dim: expected at least 1, found 0"):
        DynamicLowRankTransitions(5, 2, 3, hidden_dim=0)
    with pytest.raises(ValueError, match=r"ids: expected shape .*, found \(2, 3\)"):
        LowRankTransitions(5, 2)(torch.zeros(2, 3, dtype=torch.int64))
    static, dynamic = Case(device), Case(device, dynamic=True)
    with pytest.raises(
        ValueError, match=r"^states: expected None, static transitions take no states$"
    ):
        static.crf.decode(static.emissions, static.mask, dynamic.states)
    with pytest.raises(ValueError, match=r"states of shape \(3, 4, 3\), found None"):
        dynamic.crf.decode(dynamic.emissions, dynamic.mask)
    assert dynamic.states is not None
    with pytest.raises(ValueError, match=r"states of shape \(3, 4, 3\), found \(3, 4, 2\)"):
        dynamic.crf.decode(dynamic.emissions, dynamic.mask, dynamic.states[:, :, 1:])
    with pytest.raises(ValueError, match=r"emissions: expected shape \(B, T, 5\), found \(3, 4, 6"):
        static.crf.decode(torch.zeros(3, 4, 6), static.mask)
    real = int(static.mask.sum())
    for shape in ((real + 1, 5), (real, 6)):
        with pytest.raises(
            ValueError, match=rf"shape \({real}, 5\) of the real .*, found \({shape[0]}"
        ):
            static.crf.decode(torch.zeros(shape), static.mask)
    with pytest.raises(ValueError, match=r"include: expected shape \(3, 4\), found \(3, 3\)"):
        static.crf.log_likelihood(static.emissions, static.targets[:, 1:], static.mask)
    static.crf.candidates = 0
    with pytest.raises(ValueError, match="k: expected at least 1, found 0"):
        static.crf.decode(static.emissions, static.mask)

"""Inference in the chain equals enumeration of all paths."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from enumeration import Problem, problems, sentences
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fairseq_nart.crf import chain

few = settings(max_examples=40, deadline=None)
closed = {"impossible": (0.0, 0.5), "scales": (1.0, 1e3)}


def exact(actual: Tensor, expected: Tensor) -> None:
    assert_close(actual.cpu(), expected.cpu(), rtol=1e-9, atol=1e-9)


def one(seed: int = 0, batch: int = 3, length: int = 6, slots: int = 5) -> Problem:
    noise = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"generator": noise, "dtype": torch.float64}
    lengths = torch.arange(batch).unsqueeze(1) % length
    return Problem(
        torch.randn(batch, length, slots, **options),
        torch.randn(batch, length - 1, slots, slots, **options),
        torch.arange(length) < length - lengths,
    )


@few
@given(problem=problems(**closed))
def test_log_partition(device: torch.device, problem: Problem) -> None:
    p = problem.to(device)
    log_z = chain.log_partition(p.emissions, p.transitions, p.mask)
    for row, _, _, scores in sentences(p):
        exact(log_z[row], torch.logsumexp(scores, dim=0))


@few
@given(problem=problems(**closed))
def test_marginals(device: torch.device, problem: Problem) -> None:
    p = problem.to(device)
    unary, pairwise = chain.marginals(p.emissions, p.transitions, p.mask)
    expected_unary = torch.zeros_like(p.emissions, device="cpu")
    expected_pairwise = torch.zeros_like(p.transitions, device="cpu")
    for row, length, paths, scores in sentences(p):
        for path, probability in zip(paths, torch.softmax(scores, dim=0)):
            for i in range(length):
                expected_unary[row, i, path[i]] += probability
                if i > 0:
                    expected_pairwise[row, i - 1, path[i - 1], path[i]] += probability
    exact(unary, expected_unary)
    exact(pairwise, expected_pairwise)
    assert (unary[~p.mask] == 0).all() and (pairwise[~p.mask[:, 1:]] == 0).all()


@few
@given(problem=problems(**closed))
def test_best_path(device: torch.device, problem: Problem) -> None:
    p = problem.to(device)
    scores, best = chain.best_path(p.emissions, p.transitions, p.mask)
    for row, length, paths, expected in sentences(p):
        exact(scores[row], expected.max())
        assert tuple(best[row, :length].tolist()) == paths[int(expected.argmax())]
    assert (best[~p.mask] == 0).all()
    exact(chain.score(p.emissions, p.transitions, best, p.mask), scores)


@few
@given(problem=problems(max_slots=4, max_length=4, **closed), k=st.integers(1, 90))
def test_k_best(device: torch.device, problem: Problem, k: int) -> None:
    p = problem.to(device)
    scores, best = chain.k_best(p.emissions, p.transitions, p.mask, k)
    assert best.shape == (*p.emissions.shape[:1], k, p.emissions.shape[1])
    for row, length, paths, expected in sentences(p):
        order = expected.argsort(descending=True)[:k]
        order = order[expected[order] > -math.inf]
        exact(scores[row, : len(order)], expected[order])
        assert (scores[row, len(order) :] == -math.inf).all()
        actual = [tuple(path) for path in best[row, : len(order), :length].tolist()]
        assert actual == [paths[j] for j in order]
        assert (best[row, :, length:] == 0).all()


@few
@given(problem=problems(**closed))
def test_score_and_log_likelihood_of_every_path(device: torch.device, problem: Problem) -> None:
    p = problem.to(device)
    log_z = chain.log_partition(p.emissions, p.transitions, p.mask)
    path = p.random_path()
    actual = chain.score(p.emissions, p.transitions, path, p.mask)
    likelihood = chain.log_likelihood(p.emissions, p.transitions, path, p.mask)
    for row, length, paths, expected in sentences(p):
        exact(actual[row], expected[paths.index(tuple(path[row, :length].tolist()))])
    exact(likelihood, actual - log_z)
    assert (likelihood <= 0).all()


@few
@given(problem=problems(**closed))
def test_path_log_probs(device: torch.device, problem: Problem) -> None:
    p = problem.to(device)
    path = p.random_path()
    actual = chain.path_log_probs(p.emissions, p.transitions, path, p.mask).cpu()
    assert (actual <= 0).all() and (actual[~p.mask.cpu()] == 0).all()
    for row, length, paths, scores in sentences(p):
        own = path[row, :length].tolist()
        for i in range(length):
            # paths that agree before i, and those that agree at i as well
            before = torch.tensor([list(q[:i]) == own[:i] for q in paths])
            until = torch.tensor([list(q[: i + 1]) == own[: i + 1] for q in paths])
            total = torch.logsumexp(scores[before], dim=0)
            if total == -math.inf:
                # after an impossible prefix only the sum, compared below, is defined
                assert not actual[row, i].isnan()
            else:
                exact(actual[row, i], torch.logsumexp(scores[until], dim=0) - total)
    exact(
        actual.sum(dim=1),
        chain.log_likelihood(p.emissions, p.transitions, path, p.mask),
    )


@pytest.mark.parametrize("impossible", [False, True])
def test_sampling_frequencies(device: torch.device, impossible: bool) -> None:
    p = one(length=3, slots=3)
    if impossible:
        p.transitions[:, :, 1, 2] = -math.inf
    p = p.to(device)
    n = 20_000

    def sample(seed: int) -> Tensor:
        generator = torch.Generator(device).manual_seed(seed)
        return chain.sample(p.emissions, p.transitions, p.mask, n, generator)

    samples = sample(0)
    assert samples.shape == (3, n, 3)
    assert torch.equal(samples, sample(0)) and not torch.equal(samples, sample(1))
    assert (samples.masked_select(~p.mask.unsqueeze(1)) == 0).all()
    for row, length, paths, scores in sentences(p):
        counts = Counter(tuple(path) for path in samples[row, :, :length].tolist())
        expected = n * torch.softmax(scores, dim=0)
        actual = torch.tensor([counts[path] for path in paths], dtype=torch.float64)
        possible = expected > 0
        assert (actual[~possible] == 0).all()
        chi_square = ((actual - expected)[possible] ** 2 / expected[possible]).sum()
        freedom = int(possible.sum()) - 1
        # five standard deviations above the mean of the chi-square distribution
        assert chi_square <= freedom + 5 * math.sqrt(2 * freedom) + 1e-9


def test_sample_of_length_one(device: torch.device) -> None:
    p = one(length=1, slots=2).to(device)
    p.emissions[:, 0, 1] = -math.inf
    assert (chain.sample(p.emissions, p.transitions, p.mask, 4) == 0).all()


def test_gradients(device: torch.device) -> None:
    p = one(length=4, slots=3).to(device)
    e, t = p.emissions.requires_grad_(), p.transitions.requires_grad_()
    path = p.random_path()
    assert torch.autograd.gradcheck(lambda e, t: chain.log_partition(e, t, p.mask), (e, t))
    assert torch.autograd.gradcheck(lambda e, t: chain.score(e, t, path, p.mask), (e, t))
    assert torch.autograd.gradcheck(lambda e, t: chain.log_likelihood(e, t, path, p.mask), (e, t))


@pytest.mark.parametrize("needed", [(True, False), (False, True), (True, True)])
def test_gradient_is_marginals(device: torch.device, needed: tuple[bool, bool]) -> None:
    p = one().to(device)
    e, t = p.emissions.requires_grad_(needed[0]), p.transitions.requires_grad_(needed[1])
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, device=device)
    path = p.random_path()
    unary, pairwise = chain.marginals(e, t, p.mask)
    onehot = torch.nn.functional.one_hot(path, e.shape[2]) * p.mask.unsqueeze(2)
    pairs = onehot[:, :-1].unsqueeze(3) * onehot[:, 1:].unsqueeze(2)
    for value, of_slots, of_pairs in (
        (chain.log_partition(e, t, p.mask), unary, pairwise),
        (chain.log_likelihood(e, t, path, p.mask), onehot - unary, pairs - pairwise),
    ):
        e.grad = t.grad = None
        (weights * value).sum().backward()
        if needed[0]:
            exact(e.grad, weights.view(-1, 1, 1) * of_slots)
            assert (e.grad[~p.mask] == 0).all()
        if needed[1]:
            exact(t.grad, weights.view(-1, 1, 1, 1) * of_pairs)
            assert (t.grad[~p.mask[:, 1:]] == 0).all()
        assert (e.grad is None, t.grad is None) == (not needed[0], not needed[1])


def everything(p: Problem) -> list[Tensor]:
    arguments = (p.emissions, p.transitions, p.mask)
    path = chain.best_path(*arguments)[1]
    return [
        chain.log_partition(*arguments),
        *chain.best_path(*arguments),
        *chain.k_best(*arguments, 3),
        *chain.marginals(*arguments),
        chain.path_log_probs(p.emissions, p.transitions, path, p.mask),
        chain.log_likelihood(p.emissions, p.transitions, path, p.mask),
    ]


def test_padding_is_ignored(device: torch.device) -> None:
    p = one().to(device)
    pad = torch.nn.functional.pad
    longer = Problem(
        pad(p.emissions, (0, 0, 0, 2), value=7.0),
        pad(p.transitions, (0, 0, 0, 0, 0, 2), value=-9.0),
        pad(p.mask, (0, 2)),
    )
    for short, long in zip(everything(p), everything(longer)):
        part = long[tuple(slice(n) for n in short.shape)] if long.shape != short.shape else long
        if short.dim() == 3 and short.shape[1] == 3:
            part = long[:, :, : short.shape[2]]
        exact(part, short)
    # nor do the values at padding matter
    noisy = Problem(
        p.emissions.masked_fill(~p.mask.unsqueeze(2), math.nan),
        p.transitions.masked_fill(~p.mask[:, 1:, None, None], 1e30),
        p.mask,
    )
    for clean, dirty in zip(everything(p), everything(noisy)):
        exact(dirty, clean)


@pytest.mark.parametrize("length", [1, 6])
def test_batched_equals_single(device: torch.device, length: int) -> None:
    p = one(length=length).to(device)
    batched = everything(p)
    for row in range(3):
        single = Problem(*(x[row : row + 1] for x in (p.emissions, p.transitions, p.mask)))
        for together, alone in zip(batched, everything(single)):
            exact(together[row], alone[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(device: torch.device, dtype: torch.dtype) -> None:
    p = one().to(device)
    low = Problem(p.emissions.to(dtype), p.transitions.to(dtype), p.mask)
    high = Problem(low.emissions.float(), low.transitions.float(), p.mask)
    for half, single in zip(everything(low), everything(high)):
        assert half.dtype == single.dtype
        assert_close(half, single)
    e, t = low.emissions.requires_grad_(), low.transitions.requires_grad_()
    chain.log_partition(e, t, p.mask).sum().backward()
    assert e.grad.dtype == dtype and t.grad.dtype == dtype
    assert_close(e.grad, chain.marginals(e, t, p.mask)[0].to(dtype))
    # the emissions of a half-precision model meet transitions kept in float32
    mixed = chain.log_partition(low.emissions, high.transitions, p.mask)
    assert_close(mixed, chain.log_partition(high.emissions, high.transitions, p.mask))


def test_no_value_is_read_on_other_devices() -> None:
    """It would make the host wait for the device. Meta tensors have no values: reading raises."""
    p = one().to(torch.device("meta"))
    e, t = p.emissions.requires_grad_(), p.transitions.requires_grad_()
    chain.log_likelihood(e, t, p.random_path(), p.mask).sum().backward()
    assert e.grad is not None and t.grad is not None
    samples = chain.sample(e, t, p.mask, 4)
    assert all(value.is_meta for value in (e.grad, t.grad, samples, *everything(p)))


def test_every_path_impossible(device: torch.device) -> None:
    p = one(batch=2).to(device)
    p.transitions[0, 1] = -math.inf
    path = torch.zeros_like(p.mask, dtype=torch.int64)
    e, t = p.emissions.requires_grad_(), p.transitions.requires_grad_()
    log_z = chain.log_partition(e, t, p.mask)
    assert log_z[0] == -math.inf and log_z[1].isfinite()
    log_z.sum().backward()
    for grad in (e.grad, t.grad, *chain.marginals(e, t, p.mask)):
        assert grad.isfinite().all() and (grad[0] == 0).all() and grad[1].sum() > 0
    assert chain.log_likelihood(e, t, path, p.mask)[0] == -math.inf
    assert chain.path_log_probs(e, t, path, p.mask)[0].sum() == -math.inf
    assert chain.best_path(e, t, p.mask)[0][0] == -math.inf
    assert (chain.k_best(e, t, p.mask, 2)[0][0] == -math.inf).all()
    assert chain.sample(e, t, p.mask, 2).shape == (2, 2, 6)


def test_impossible_slot(device: torch.device) -> None:
    p = one(batch=1).to(device)
    p.emissions[:, 2, 1] = -math.inf
    unary, pairwise = chain.marginals(p.emissions, p.transitions, p.mask)
    assert unary[0, 2, 1] == 0 and not pairwise.isnan().any()
    exact(unary.sum(dim=2), p.mask.double())


def test_equals_pytorch_crf(device: torch.device) -> None:
    torchcrf = pytest.importorskip("torchcrf")
    p = one(batch=4, length=5, slots=4).to(device)
    theirs = torchcrf.CRF(4, batch_first=True).to(device).double()
    torch.nn.init.zeros_(theirs.start_transitions)
    torch.nn.init.zeros_(theirs.end_transitions)
    t = theirs.transitions.detach().expand(4, 4, 4, 4)
    path = p.random_path()
    exact(
        chain.log_likelihood(p.emissions, t, path, p.mask),
        theirs(p.emissions, path, mask=p.mask, reduction="none"),
    )
    best = chain.best_path(p.emissions, t, p.mask)[1]
    for row, expected in enumerate(theirs.decode(p.emissions, mask=p.mask)):
        assert best[row, : len(expected)].tolist() == expected


def wrong(name: str, value: object) -> dict[str, object]:
    p = one()
    arguments: dict[str, object] = {
        "emissions": p.emissions,
        "transitions": p.transitions,
        "mask": p.mask,
        "path": torch.zeros(3, 6, dtype=torch.int64),
    }
    return arguments | {name: value}


holes = torch.ones(3, 6, dtype=torch.bool)
holes[1, 2] = False
empty = torch.ones(3, 6, dtype=torch.bool)
empty[2] = False


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("emissions", torch.zeros(3, 6), r"emissions: expected shape .*, found \(3, 6\)"),
        ("emissions", torch.zeros(3, 0, 5), r"emissions: expected shape .*, found \(3, 0, 5\)"),
        ("emissions", torch.zeros(3, 6, 5, dtype=torch.int64), "emissions: .* torch.int64"),
        (
            "transitions",
            torch.zeros(3, 6, 5, 5),
            r"transitions: expected shape \(3, 5, 5, 5\), found \(3, 6, 5, 5\)",
        ),
        ("transitions", torch.zeros(3, 5, 5, 5).long(), "transitions: .* torch.int64"),
        ("transitions", torch.zeros(3, 5, 5, 5, device="meta"), "transitions: expected on cpu"),
        ("mask", torch.ones(3, 5).bool(), r"mask: expected shape \(3, 6\), found \(3, 5\)"),
        ("mask", torch.ones(3, 6), "mask: expected torch.bool, found torch.float32"),
        ("mask", holes, "mask: expected True first"),
        ("mask", empty, "mask: expected True first"),
        ("path", torch.zeros(3, 5).long(), r"path: expected shape \(3, 6\), found \(3, 5\)"),
        ("path", torch.zeros(3, 6), "path: expected torch.int64, found torch.float32"),
        ("path", torch.full((3, 6), 5), r"path: expected slots in 0..4"),
        ("path", torch.full((3, 6), -1), r"path: expected slots in 0..4"),
    ],
)
def test_error_messages(name: str, value: object, message: str) -> None:
    arguments: dict[str, Any] = wrong(name, value)
    for function in (chain.score, chain.log_likelihood, chain.path_log_probs):
        with pytest.raises(ValueError, match=f"^{message}"):
            function(**arguments)
    if name != "path":
        del arguments["path"]
        for extra, others in (
            ({}, (chain.log_partition, chain.best_path, chain.marginals)),
            ({"k": 2}, (chain.k_best,)),
            ({"n": 2}, (chain.sample,)),
        ):
            for without_path in others:
                with pytest.raises(ValueError, match=f"^{message}"):
                    without_path(**arguments, **extra)


def test_error_messages_of_counts() -> None:
    p = one()
    with pytest.raises(ValueError, match="k: expected at least 1, found 0"):
        chain.k_best(p.emissions, p.transitions, p.mask, 0)
    with pytest.raises(ValueError, match="n: expected at least 1, found -1"):
        chain.sample(p.emissions, p.transitions, p.mask, -1)

"""The compiled loops, those in torch and the scans, compared with their definitions in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kalmanssl.kalman import NotPositiveDefiniteError
from kalmanssl.kalman.backends import _affine_recursions as recursions_module
from kalmanssl.kalman.backends._affine_recursions import (
    AffineScan,
    CovarianceRecursion,
    affine_scan,
    covariance_recursion,
)
from kalmanssl.kalman.backends._covariance_recursion import covariances, steps_to_forget
from kalmanssl.kalman.backends._mean_recursion import filter_means, means_adjoint
from kalmanssl.kalman.backends._smoother_gains import smoother_gains

CLOSE = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.float64: {"rtol": 1e-11, "atol": 1e-12}}
SIZES = [1, 8, 17]  # below, at and above a whole number of SIMD vectors


@pytest.fixture(params=["compiled", "torch"])
def compiled_and_torch(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(recursions_module, "has_compiler", lambda: False)


@pytest.fixture(params=["compiled", "torch", "scan"])
def parallel(request, monkeypatch):
    """Whether the recursions are scans; if not, the loops are compiled or in torch."""
    if request.param == "torch":
        monkeypatch.setattr(recursions_module, "has_compiler", lambda: False)
    return request.param == "scan"


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def transitions(known, models, n, dtype=torch.float64):
    return 0.7 * random(known, models, n, n, seed=1, dtype=dtype) / n**0.5


def assert_close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), np.asarray(expected), **CLOSE[found.dtype])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("models", [1, 2, 6], ids=["shared", "in groups", "one per sequence"])
@pytest.mark.parametrize("known", [1, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", SIZES)
def test_affine_scan_follows_its_definition(n, dtype, known, models, reverse, parallel):
    steps, batch = 7, 6
    u, M = random(steps, batch, n, dtype=dtype), transitions(known, models, n, dtype)
    x = u.double().numpy().copy()
    order = range(steps - 2, -1, -1) if reverse else range(1, steps)
    for t in order:
        for s in range(batch):
            matrix = M[min(t, known - 1), s // (batch // models)].double().numpy()
            x[t, s] += matrix @ x[t + 1 if reverse else t - 1, s]
    before = u.clone()
    assert_close(affine_scan(u, M, reverse=reverse, parallel=parallel), x)
    assert torch.equal(u, before)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("models", [1, 2], ids=["shared", "one per sequence"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", SIZES)
def test_covariance_recursion_follows_its_definition(n, dtype, models, reverse, parallel):
    steps, batch = 5, 2
    D, M = random(steps, batch, n, n, dtype=dtype), transitions(steps - 1, models, n, dtype)
    D = D + D.mT
    X = D.double().numpy().copy()
    for i in range(steps - 2, -1, -1) if reverse else range(steps - 1):
        for s in range(batch):
            matrix = M[i, s % models].double().numpy()
            here, there = (i, i + 1) if reverse else (i + 1, i)
            X[here, s] += matrix @ X[there, s] @ matrix.T
    assert_close(covariance_recursion(D, M, reverse=reverse, parallel=parallel), X)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("models", [1, 2, 4])
@pytest.mark.parametrize("known", [1, 3, 5])
def test_derivatives_of_the_affine_scan(known, models, reverse, parallel):
    known = min(known, 4) if reverse else known  # there is nothing after the last step
    u, M = random(5, 4, 2).requires_grad_(), transitions(known, models, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, M: AffineScan.apply(u, M, reverse, parallel), (u, M))


@pytest.mark.parametrize("models", [1, 3])
def test_derivatives_of_the_covariance_recursion(models, parallel):
    D, M = random(4, 3, 2, 2).requires_grad_(), transitions(3, models, 2).requires_grad_()
    if models == 1:
        D = random(4, 1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda D, M: CovarianceRecursion.apply(D + D.mT, M, parallel), (D, M))


def problem(n, m, *, periods, dtype=torch.float64, full=False):
    """Parameters (steps|1, 1, …), time first; `periods` are the steps of A, Q, C, R."""
    a, q, c, r = periods
    A, C = transitions(a, 1, n), random(c, 1, m, n, seed=2)
    Q, R = 0.1 + random(q, 1, n, seed=3).square(), 0.1 + random(r, 1, m, seed=4).square()
    if full:
        Q, R = Q.diag_embed() + 0.1, R.diag_embed() + 0.1
    P0 = torch.eye(n, dtype=torch.float64)[None, None] + 0.5
    return [p.to(dtype) for p in (P0, A, Q, C, R)]


def plain_covariances(steps, P0, A, Q, C, R):
    pick = lambda p, t: p[min(t, len(p) - 1), 0].double().numpy()  # noqa: E731
    full = lambda noise: np.diag(noise) if noise.ndim == 1 else noise  # noqa: E731
    P, rows = P0[0, 0].double().numpy(), []
    for t in range(steps):
        if t:
            P = pick(A, t) @ P @ pick(A, t).T + full(pick(Q, t))
        H = pick(C, t)
        F = H @ P @ H.T + full(pick(R, t))
        K = np.linalg.solve(F, H @ P).T
        rows.append((P, P - K @ F @ K.T, K, F))
        P = rows[-1][1]
    return [np.stack(column)[:, None] for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize(
    "periods", [(1, 1, 1, 1), (9, 9, 9, 9), (1, 9, 1, 1), (9, 1, 1, 1), (1, 1, 9, 1), (1, 1, 1, 9)]
)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (7, 3), (2, 5), (16, 9)])
def test_covariances_of_the_filter_follow_their_definition(n, m, periods, full, parallel):
    parameters = problem(n, m, periods=periods, full=full)
    found = covariances(9, *parameters, add_jitter=False, for_gradients=False, parallel=parallel)
    expected = plain_covariances(9, *parameters)
    for mine, plain in zip(found[:4], expected, strict=True):
        assert_close(mine, plain)
    assert_close(found.whitener @ found.whitener.mT, np.linalg.inv(expected[3]))
    assert torch.equal(found.whitener, found.whitener.triu())


def test_covariances_that_converge_late_need_several_allocations(parallel):
    """The covariances converge after more steps than the compiled loop and the scan compute at first."""
    parameters = problem(3, 1, periods=(1, 1, 1, 1))
    parameters[1] = 0.975 * torch.eye(3, dtype=torch.float64)[None, None]
    parameters[2] = 1e-5 * parameters[2]
    found = covariances(1000, *parameters, add_jitter=False, for_gradients=False, parallel=parallel)
    assert 512 < len(found.gain) < 1000
    for mine, plain in zip(found[:4], plain_covariances(1000, *parameters), strict=True):
        np.testing.assert_allclose(mine, plain[: len(mine)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spoiled", [-5.0, float("nan"), float("inf")])
def test_an_indefinite_or_infinite_covariance_raises(spoiled, parallel):
    parameters = problem(3, 2, periods=(1, 1, 1, 9))
    parameters[4][6, 0, 1] = spoiled
    with pytest.raises(NotPositiveDefiniteError):
        covariances(9, *parameters, add_jitter=False, for_gradients=False, parallel=parallel)


def test_jitter_added_to_a_covariance_is_reported():
    parameters = problem(3, 2, periods=(1, 1, 1, 1))
    parameters[3][:, :, 1] = parameters[3][:, :, 0]  # the same channel twice, with a slightly negative noise variance
    parameters[4].fill_(-1e-11)
    with pytest.warns(RuntimeWarning, match="innovation covariance"):
        found = covariances(3, *parameters, add_jitter=True, for_gradients=False)
    assert found.jitter.shape == (1,)
    assert 0 < float(found.jitter) < 1e-8


@pytest.mark.usefixtures("compiled_and_torch")
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", [(1, 1), (1, 5), (3, 1), (3, 5)], ids=["none", "time", "batch", "both"])
@pytest.mark.parametrize("n", [1, 4, 7, 16])
def test_smoother_gains_follow_their_definition(n, varies, full):
    A, Q = transitions(*varies, n), 0.1 + random(*varies, n, seed=3).square()
    Q = Q.diag_embed() + 0.1 if full else Q
    root = random(3, 5, n, n, seed=4)
    P = root @ root.mT + 0.1 * torch.eye(n, dtype=torch.float64)
    gain, noise = smoother_gains(P, A, Q)
    cross = (P @ A.mT).numpy()
    ahead = A.numpy() @ cross + (Q if full else Q.diag_embed()).numpy()
    expected = cross @ np.linalg.inv(ahead)
    np.testing.assert_allclose(gain, expected, rtol=1e-8, atol=1e-10)
    remaining = P.numpy() - expected @ ahead @ expected.swapaxes(-1, -2)  # the variance that x_{t+1} leaves of x_t
    np.testing.assert_allclose(noise, remaining, rtol=1e-7, atol=1e-9)
    assert torch.equal(noise, noise.mT)


@pytest.mark.usefixtures("compiled_and_torch")
def test_smoother_gains_of_a_state_without_uncertainty_are_finite():
    eye, nothing = torch.eye(2, dtype=torch.float64), torch.zeros(1, 1, 2, dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match="predicted covariance"):
        gain, _ = smoother_gains(0 * eye[None, None], eye[None, None], nothing)
    assert torch.isfinite(gain).all()


def test_steps_to_forget_follow_the_slowest_eigenvalue():
    M = torch.diag(torch.tensor([0.5, 0.9], dtype=torch.float64))
    steps = steps_to_forget(M, 10, 10_000)
    assert 0.9**steps < 1e-6 < 0.9 ** (steps / 4)
    assert steps_to_forget(M, 10, 15) == 15
    assert steps_to_forget(M, 500, 10_000) == 500
    assert steps_to_forget(torch.eye(2, dtype=torch.float64), 1, 777) == 777


def means_problem(n, m, batch, known, *, own_b=False, dtype=torch.float64):
    steps = 6
    a, c, k, b = known
    y, m0 = random(steps, batch, m, seed=5), random(1, batch, n, seed=6)
    offset = random(b, batch if own_b else 1, n, seed=7)
    A, C, K = transitions(a, 1, n), random(c, 1, m, n, seed=8), 0.3 * random(k, 1, n, m, seed=9)
    V = random(k, 1, m, m, seed=10).triu(1) + (0.5 + random(k, 1, m, seed=11).abs()).diag_embed()
    return [p.to(dtype) for p in (y, m0, offset, A, C, K, V)]


def plain_means(y, m0, b, A, C, K, V):
    pick = lambda p, t: p[min(t, len(p) - 1), 0]  # noqa: E731
    x, rows = m0[0], []
    for t, seen in enumerate(y):
        if t:
            x = x @ pick(A, t).mT + b[min(t, len(b) - 1)]
        e = seen - x @ pick(C, t).mT
        alpha = e @ (pick(V, t) @ pick(V, t).mT)
        log_density = pick(V, t).diagonal().log().sum() - 0.5 * (e * alpha).sum(-1)
        rows.append((x, x + e @ pick(K, t).mT, e, alpha, log_density))
        x = rows[-1][1]
    return [torch.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("own_b", [False, True])
@pytest.mark.parametrize("known", [(1, 1, 1, 1), (1, 1, 3, 6), (6, 6, 6, 1)])
@pytest.mark.parametrize(("n", "m", "batch"), [(1, 1, 1), (3, 2, 37), (8, 16, 5), (17, 9, 4)])
def test_means_of_the_filter_follow_their_definition(n, m, batch, known, own_b, dtype, parallel):
    arguments = means_problem(n, m, batch, known, own_b=own_b, dtype=dtype)
    for mine, plain in zip(
        filter_means(*arguments, parallel=parallel), plain_means(*(p.double() for p in arguments)), strict=True
    ):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, plain, rtol=1e-3, atol=CLOSE[dtype]["atol"] * 10)


@pytest.mark.parametrize("given", ["all", "innovation"])
@pytest.mark.parametrize("known", [(1, 1, 1, 1), (1, 1, 3, 6), (6, 6, 6, 1)])
@pytest.mark.parametrize(("n", "m", "batch"), [(1, 1, 1), (3, 2, 37), (17, 9, 4)])
def test_adjoint_of_the_means_agrees_with_autograd(n, m, batch, known, given, parallel):
    y, m0, b, A, C, K, V = means_problem(n, m, batch, known)
    y, shifts = y.requires_grad_(), [torch.zeros(6, batch, n, dtype=torch.float64, requires_grad=True)]
    m0.requires_grad_()
    # A shift of the offset moves the predicted mean, one of y the innovation.
    mp, mf, e, _, _ = plain_means(y, m0, b.expand(6, batch, n) + shifts[0], A, C, K, V)
    g_mp, g_mf, g_e = (random(*p.shape, seed=20 + i) for i, p in enumerate((mp, mf, e)))
    loss = (g_e * e).sum()
    if given == "all":
        loss = loss + (g_mp * mp).sum() + (g_mf * mf).sum()
    to_y, to_m0, to_shift = torch.autograd.grad(loss, (y, m0, shifts[0]))
    outside = (g_mp, g_mf) if given == "all" else (None, None)
    d_mp, d_mf, d_e = means_adjoint(A, C, K, *outside, g_e, parallel=parallel)
    assert_close(d_e, to_y)
    assert_close(d_mp[:1], to_m0)
    assert_close(d_mp[1:], to_shift[1:])
    direct = d_mf @ K[[min(t, len(K) - 1) for t in range(6)], 0]
    assert_close(direct, d_e - g_e)


def test_results_do_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    u, M = random(20, 100, 5), transitions(3, 1, 5)
    one = affine_scan(u, M)
    try:
        torch.set_num_threads(3)
        assert torch.equal(affine_scan(u, M), one)
    finally:
        torch.set_num_threads(threads)

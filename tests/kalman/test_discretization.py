from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import torch

from kalmanssl.errors import InputError
from kalmanssl.kalman import _discretization, discretize, kalman_filter, kalman_smoother


def sde(state=3, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    F = scale * rng.normal(size=(state, state))
    factor = rng.normal(size=(state, state))
    return tuple(torch.as_tensor(v) for v in (F, factor @ factor.T, rng.normal(size=state)))


def integrate(F, S, c, dt):
    """The three integrals by numerical quadrature."""
    F, S, c = (v.numpy() for v in (F, S, c))
    n = len(F)

    def integrand(s):
        E = scipy.linalg.expm(F * s)
        return np.concatenate([(E @ S @ E.T).ravel(), E @ c])

    value, _ = scipy.integrate.quad_vec(integrand, 0, dt, epsabs=1e-13, epsrel=1e-13)
    return scipy.linalg.expm(F * dt), value[: n * n].reshape(n, n), value[n * n :]


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("state", [1, 3, 6])
def test_agrees_with_numerical_quadrature(state, scale):
    F, S, c = sde(state, scale=scale)
    dt = torch.tensor([[0.0, 0.3, 1e-6, 2.0], [0.0, 0.3, 0.7, 0.1]], dtype=torch.float64)
    values = discretize(F, S, dt, c=c)
    assert {name: tuple(v.shape) for name, v in values.items()} == {
        "A": (2, 4, state, state),
        "Q": (2, 4, state, state),
        "b": (2, 4, state),
    }
    for n in range(2):
        for t in range(1, 4):
            for name, expected in zip("AQb", integrate(F, S, c, float(dt[n, t])), strict=True):
                value = values[name][n, t].numpy()
                np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-11 * np.abs(expected).max())
    torch.testing.assert_close(values["Q"], values["Q"].mT, rtol=0, atol=0)


def test_an_ornstein_uhlenbeck_process_has_its_known_transition():
    rate, deviation, mean = 0.7, 1.3, -2.0
    dt = torch.tensor([9.0, 0.1, 0.0, 5.0], dtype=torch.float64)
    F, S, c = (torch.tensor(v, dtype=torch.float64) for v in ([[-rate]], [2 * rate * deviation**2], [rate * mean]))
    values = discretize(F, S, dt, c=c)
    decay = torch.exp(-rate * dt[1:])
    torch.testing.assert_close(values["A"][0, 1:, 0, 0], decay)
    torch.testing.assert_close(values["Q"][0, 1:, 0, 0], deviation**2 * (1 - decay**2))
    torch.testing.assert_close(values["b"][0, 1:, 0], mean * (1 - decay))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fast_decay_over_a_long_time_does_not_overflow(dtype):
    """exp(-F dt) overflows here; the fast mode has reached its stationary state, the slow one has hardly changed."""
    F, S = torch.diag(torch.tensor([-1e4, -1e-4], dtype=dtype)), torch.tensor([2.0, 3.0], dtype=dtype)
    values = discretize(F, S, torch.tensor([0.0, 50.0], dtype=dtype))
    expected = [1e-4, 3 * (1 - np.exp(-0.01)) / 2e-4]
    rtol = 1e-6 if dtype == torch.float32 else 1e-9
    np.testing.assert_allclose(values["Q"][0, 1].diagonal(), expected, rtol=rtol)
    np.testing.assert_allclose(values["A"][0, 1].diagonal(), [0.0, np.exp(-0.005)], rtol=rtol, atol=1e-30)


@pytest.mark.parametrize("step", [1e-4, 0.1, 10.0])
def test_constant_velocity_stays_positive_definite_in_float32(step):
    F, S = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([0.0, 1.0])
    Q = discretize(F, S, torch.tensor([0.0, step]))["Q"][0, 1].double()
    expected = torch.tensor([[step**3 / 3, step**2 / 2], [step**2 / 2, step]], dtype=torch.float64)
    torch.testing.assert_close(Q, expected, rtol=1e-6, atol=0)
    assert torch.linalg.eigvalsh(Q).min() > 0


def test_a_time_difference_of_zero_changes_nothing():
    F, S, c = sde()
    values = discretize(F, S, torch.zeros(2, dtype=torch.float64), c=c)
    torch.testing.assert_close(values["A"][0, 1], torch.eye(3, dtype=torch.float64), rtol=0, atol=0)
    assert not values["Q"].any()
    assert not values["b"].any()


def test_the_first_time_difference_is_not_used():
    F, S, _ = sde()
    first, other = (
        discretize(F, S, torch.tensor([v, 0.5], dtype=torch.float64)) for v in (float("nan"), -float("inf"))
    )
    for name in "AQ":
        torch.testing.assert_close(first[name], other[name], rtol=0, atol=0)
        assert torch.isfinite(first[name]).all()
    assert set(first) == {"A", "Q"}


def test_a_single_time_difference_is_used():
    F, S, _ = sde()
    alone, second = (discretize(F, S, torch.tensor(dt, dtype=torch.float64)) for dt in ([0.5], [0.0, 0.5]))
    for name in "AQ":
        torch.testing.assert_close(alone[name][:, 0], second[name][:, 1], rtol=1e-14, atol=0)
    for wrong in (float("nan"), float("inf"), -0.5):
        with pytest.raises(InputError, match=f"dt: {wrong:g} at batch 0, time 0; expected finite time differences"):
            discretize(F, S, torch.tensor([wrong], dtype=torch.float64))


@pytest.mark.parametrize("offset", [False, True])
def test_irregular_times_give_the_results_of_a_fine_grid_with_missing_steps(offset):
    generator = torch.Generator().manual_seed(0)
    F, S, c = sde(2)
    F, c = F - 2 * torch.eye(2), c if offset else None
    grid, step = 40, 0.05
    seen = torch.zeros(grid, dtype=torch.bool)
    seen[[0, 3, 4, 9, 21, 39]] = True
    y = torch.randn(3, grid, 1, generator=generator, dtype=torch.float64)
    emission = {"C": torch.tensor([[1.0, 0.5]], dtype=torch.float64), "R": torch.tensor([0.2], dtype=torch.float64)}
    fine = discretize(F, S, torch.full((grid,), step, dtype=torch.float64), c=c)
    mask = seen.expand(3, grid)
    stamps = step * torch.arange(grid, dtype=torch.float64)[seen]
    coarse = discretize(F, S, stamps.diff(prepend=stamps[:1]), c=c)
    for function, names in ((kalman_filter, ("filtered_",)), (kalman_smoother, ("smoothed_",))):
        expected = function(y, **fine, **emission, mask=mask)
        out = function(y[:, seen], **coarse, **emission)
        for name in names:
            for moment in ("mean", "cov"):
                torch.testing.assert_close(getattr(out, name + moment), getattr(expected, name + moment)[:, seen])
    expected, out = kalman_filter(y, **fine, **emission, mask=mask), kalman_filter(y[:, seen], **coarse, **emission)
    torch.testing.assert_close(out.log_likelihood, expected.log_likelihood[:, seen])


def test_two_observations_at_one_time_equal_one_observation_of_two_channels():
    F, S, _ = sde(2)
    y = torch.tensor([[[1.0], [-2.0], [0.5]]], dtype=torch.float64)
    one = torch.tensor([[1.0, 0.3]], dtype=torch.float64)
    R = torch.tensor([0.1], dtype=torch.float64)
    apart = kalman_filter(y, **discretize(F, S, torch.tensor([0.0, 0.4, 0.0], dtype=torch.float64)), C=one, R=R)
    values = discretize(F, S, torch.tensor([0.0, 0.4], dtype=torch.float64))
    mask = torch.tensor([[[True, False], [True, True]]])
    y2 = torch.tensor([[[1.0, 0.0], [-2.0, 0.5]]], dtype=torch.float64)
    together = kalman_filter(y2, **values, C=one.expand(2, 2), R=R.expand(2), mask=mask)
    torch.testing.assert_close(apart.filtered_mean[:, -1], together.filtered_mean[:, -1])
    torch.testing.assert_close(apart.filtered_cov[:, -1], together.filtered_cov[:, -1])


@pytest.mark.parametrize("scale", [1.0, 8.0], ids=["short", "halved"])
def test_gradcheck(scale):
    F, S, c = sde(2, scale=scale)
    factor = torch.linalg.cholesky(S)
    dt = torch.tensor([[0.0, 0.3, 0.0, 0.3], [0.0, 0.7, 0.2, 0.3]], dtype=torch.float64)

    def function(F, factor, c, dt):
        return tuple(discretize(F, factor @ factor.mT, dt, c=c).values())

    inputs = tuple(v.clone().requires_grad_() for v in (F, factor, c))
    assert torch.autograd.gradcheck(lambda *p: function(*p, dt), inputs)
    dt[:, 1:] += 0.1  # Finite differences at zero would need negative times.
    assert torch.autograd.gradcheck(function, (*inputs, dt.requires_grad_()))


def test_equal_time_differences_are_computed_once(monkeypatch):
    sizes, integrate_all = [], _discretization._integrate
    monkeypatch.setattr(
        _discretization, "_integrate", lambda F, S, c, dt: sizes.append(len(dt)) or integrate_all(F, S, c, dt)
    )
    F, S, _ = sde()
    dt = torch.tensor([0.1, 20.0, 3.0], dtype=torch.float64)[torch.arange(1000) % 3]
    once = discretize(F, S, dt)
    each = discretize(F, S, dt.clone().requires_grad_())
    assert sizes == [3, 1000]
    for name in "AQ":
        torch.testing.assert_close(once[name], each[name])


def test_results_have_the_data_type_of_the_drift():
    F, S, c = (v.float() for v in sde())
    values = discretize(F, S, torch.tensor([0.0, 0.1], dtype=torch.float64), c=c)
    assert {v.dtype for v in values.values()} == {torch.float32}


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


MESSAGES = {
    "F": ({"F": ones(2, 3)}, r"F: expected \(state, state\), got \(2, 3\); given: F \(2, 3\), S \(3,\), dt \(4,\)"),
    "F nan": ({"F": ones(3, 3) * np.nan}, "F: contains NaN"),
    "S": ({"S": ones(2)}, r"S: expected \(3,\) or .* with state = 3, got \(2,\)"),
    "S axes": ({"S": ones(1, 4, 3)}, r"S: expected \(3,\) or \(3, 3\), got \(1, 4, 3\)"),
    "S negative": ({"S": -ones(3)}, "S: a variance is negative"),
    "S not positive": ({"S": torch.eye(3).double() - 0.5}, "S: a covariance is not positive"),
    "c": ({"c": ones(1, 3)}, r"c: expected \(3,\), got \(1, 3\)"),
    "c dtype": ({"c": ones(3).float()}, r"c: expected torch.float64 on cpu .* got torch.float32"),
    "dt axes": ({"dt": ones(2, 4, 1)}, r"dt: expected \(time,\) or \(batch, time\) .* got \(2, 4, 1\)"),
    "dt empty": ({"dt": ones(0)}, r"dt: expected \(time,\) .* got \(0,\)"),
    "dt integer": ({"dt": torch.ones(4).long()}, r"dt: expected float32 or float64, got torch.int64"),
    "dt negative": (
        {"dt": torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, -0.5]])},
        r"dt: -0.5 at batch 1, time 2; expected finite time differences .* sort",
    ),
    "dt nan": ({"dt": torch.tensor([1.0, float("nan")])}, r"dt: nan at batch 0, time 1; expected finite"),
    "dt inf": ({"dt": torch.tensor([1.0, float("inf")])}, r"dt: inf at batch 0, time 1; expected finite"),
    "units": (
        {"dt": torch.tensor([1.0, 1e30])},
        r"dt: the longest one times the norm of F is 3e\+30; check the units of both",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MESSAGES.values(), ids=MESSAGES)
def test_a_wrong_argument_is_named(changes, message):
    values = {"F": ones(3, 3), "S": ones(3), "dt": ones(4), **changes}
    with pytest.raises(InputError, match=message) as raised:
        discretize(**values)
    assert "\n" not in str(raised.value)
    assert raised.value.parameter == str(raised.value).split(":")[0]

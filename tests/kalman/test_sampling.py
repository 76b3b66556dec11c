from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_joint import Joint, make_problem

from kalmanssl.errors import InputError
from kalmanssl.kalman import kalman_filter, kalman_smoother, sample_posterior, sample_prior


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_moments(samples, mean, cov, sigmas=5.0):
    """Sample moments of (n, dim) are within `sigmas` standard errors of the exact ones; variances from Wishart."""
    n = len(samples)
    variances = np.diag(cov)
    error = (samples.mean(0) - mean) / np.sqrt(variances / n)
    assert np.abs(error).max() < sigmas
    error_scale = np.sqrt((np.outer(variances, variances) + cov**2) / n)
    assert np.abs((np.cov(samples.T) - cov) / error_scale).max() < sigmas


@pytest.mark.parametrize(("varies", "full", "missing"), [("none", False, "none"), ("both", True, "channels")])
def test_posterior_trajectories_have_the_joint_moments(varies, full, missing):
    problem = make_problem(varies=varies, full=full, missing=missing, time=4, state=2)
    samples = sample_posterior(problem.y, 20_000, **problem.parameters, mask=problem.mask, generator=generator())
    assert samples.shape == (20_000, 2, 4, 2)
    for n in range(2):
        mean, cov = Joint(problem, n).states_given(4)
        assert_moments(samples[:, n].reshape(20_000, -1).numpy(), mean.ravel(), cov)


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "both"])
def test_prior_draws_have_the_joint_moments(varies, full):
    problem = make_problem(varies=varies, full=full, time=3, state=2, batch=1)
    draws = sample_prior(20_000, 3, **as_shared(problem.parameters), generator=generator(1))
    joint = Joint(problem, 0)
    assert_moments(draws.states.flatten(1).numpy(), joint.mean, joint.cov)
    assert_moments(draws.observations.flatten(1).numpy(), joint.y_mean, joint.y_cov)


def as_shared(parameters):
    """Drop a batch axis of 1 from m0 and P0, so that the parameters fit any batch."""
    return {
        name: value[0] if name in ("m0", "P0") and value.shape[0] == 1 else value for name, value in parameters.items()
    }


@pytest.mark.parametrize("varies", ["none", "time"])
def test_innovations_of_data_from_the_model_are_white(varies):
    problem = make_problem(varies=varies, time=40, state=3, obs=2)
    problem.parameters["A"] = 0.7 * problem.parameters["A"]
    data = sample_prior(500, 40, **problem.parameters, generator=generator(2))
    out = kalman_filter(data.observations, **problem.parameters)
    factor = torch.linalg.cholesky(out.innovation_cov)
    white = torch.linalg.solve_triangular(factor, out.innovation[..., None], upper=False)[..., 0]
    flat = white.flatten(1).numpy()
    n = len(flat)
    assert abs(flat.mean()) < 5 / np.sqrt(flat.size)
    assert abs(flat.var() - 1) < 5 * np.sqrt(2 / flat.size)
    correlation = flat.T @ flat / n
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 6 / np.sqrt(n)
    # The mean log-likelihood is then minus the entropy of the innovations.
    expected = -0.5 * (torch.logdet(out.innovation_cov) + 2 * (1 + np.log(2 * np.pi)))
    assert abs(float((out.log_likelihood - expected).mean())) < 5 * np.sqrt(1 / (500 * 40))


def test_posterior_intervals_contain_the_true_states_at_their_nominal_level():
    problem = make_problem(varies="time", full=True, time=10, batch=1)
    data = sample_prior(2000, 10, **as_shared(problem.parameters), generator=generator(3))
    out = kalman_smoother(data.observations, **as_shared(problem.parameters))
    deviation = (data.states - out.smoothed_mean) / out.smoothed_cov.diagonal(dim1=-2, dim2=-1).sqrt()
    inside = (deviation.abs() < 1.959964).double().mean((0,))
    assert (inside - 0.95).abs().max() < 5 * np.sqrt(0.95 * 0.05 / 2000)


def test_the_same_seed_gives_the_same_samples():
    problem = make_problem(varies="both")
    one, two, other = (sample_posterior(problem.y, 3, **problem.parameters, generator=generator(s)) for s in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    priors = [sample_prior(2, 6, **problem.parameters, generator=generator(s)) for s in (7, 7, 8)]
    assert torch.equal(priors[0].observations, priors[1].observations)
    assert not torch.equal(priors[0].states, priors[2].states)


def test_sampling_with_a_generator_does_not_change_the_global_one():
    problem = make_problem()
    before = torch.get_rng_state()
    sample_posterior(problem.y, 2, **problem.parameters, generator=generator())
    sample_prior(2, 3, **problem.parameters, generator=generator())
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_without_process_noise_gives_identical_trajectories():
    """Q = 0 and P0 = 0, which have no Cholesky factor."""
    problem = make_problem()
    zeros = {"Q": torch.zeros(3, dtype=torch.float64), "P0": torch.zeros(3, dtype=torch.float64)}
    draws = sample_prior(5, 6, **{**problem.parameters, **zeros}, generator=generator())
    torch.testing.assert_close(draws.states, draws.states[:1].expand_as(draws.states))


def test_gradcheck_of_a_posterior_sample():
    problem = make_problem(time=3, state=2, obs=1)
    R = problem.parameters["R"].requires_grad_()

    def draw(R):
        return sample_posterior(problem.y, 2, **{**problem.parameters, "R": R}, generator=generator())

    assert torch.autograd.gradcheck(draw, R)


@pytest.mark.parametrize("count", [0, -1, 2.0, True])
def test_a_wrong_number_of_samples_or_steps_is_named(count):
    problem = make_problem()
    with pytest.raises(InputError, match="n_samples must be a whole number, at least 1"):
        sample_posterior(problem.y, count, **problem.parameters)
    with pytest.raises(InputError, match="time must be a whole number, at least 1"):
        sample_prior(1, count, **problem.parameters)


def test_a_seed_in_place_of_a_generator_is_named():
    problem = make_problem()
    with pytest.raises(InputError, match=r"generator: expected a torch.Generator or None, got int; .*manual_seed"):
        sample_posterior(problem.y, 1, **problem.parameters, generator=3)

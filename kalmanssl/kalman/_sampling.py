"""Samples of states and observations from the model, and of states from the posterior given observations."""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import matvec_broadcast, safe_cholesky
from kalmanssl.kalman._model import Model, Observations, as_covariance, to_float64
from kalmanssl.kalman._moments import from_second, step_index
from kalmanssl.kalman._results import PriorSample
from kalmanssl.kalman._smoothing import backward_process
from kalmanssl.kalman._tensor_checks import all_finite, check_memory, check_moments, wrong_value
from kalmanssl.kalman._validation import check_generator, check_model, check_observations
from kalmanssl.kalman.backends import AffineScan, filter_auto, prefers_scan, uses_scan
from kalmanssl.utils.validation import check_integer

__all__ = ["draw_posterior", "draw_prior", "sample_posterior", "sample_prior"]


def sample_prior(
    batch: int,
    time: int,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    m0: Tensor | None = None,
    P0: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> PriorSample:
    """Draw states and observations from the model.

    Parameters
    ----------
    batch, time : int
        Number of sequences and of steps.
    A, Q, C, R, b, m0, P0
        As for `kalman_filter`.
    generator : torch.Generator, optional
        Source of randomness, on the device of A; the default generator of torch if not given.

    Returns
    -------
    PriorSample
        states (batch, time, state) and observations (batch, time, obs), in the data type of A.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value.
    """
    check_integer("batch", batch, 1)
    check_integer("time", time, 1)
    model = check_model(A, batch, time, A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0)
    check_generator(generator, A)
    return draw_prior(model, batch, time, generator)


def draw_prior(model: Model, batch: int, time: int, generator: torch.Generator | None) -> PriorSample:
    """Draw from a model that was checked before."""
    obs, state = model.C.shape[-2:]
    check_memory("time", 2 * batch * time * (state + obs) * model.A.element_size())

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=model.A.dtype, device=model.A.device)

    first = model.m0 + matvec_broadcast(_factor(model.P0, "P0"), draw(batch, state))
    shocks = model.b + _noise(model.Q, "Q", draw(batch, time, state))
    offsets = torch.cat([first[:, None], shocks[:, 1:]], 1).transpose(0, 1)
    parallel = prefers_scan(offsets, time, len(model.A) * state * state)
    states = AffineScan.apply(offsets, model.A.transpose(0, 1), False, parallel).transpose(0, 1)
    if not all_finite(states):
        raise wrong_value("time", "the states overflow, since A lets them grow; draw fewer steps")
    return PriorSample(states, matvec_broadcast(model.C, states) + _noise(model.R, "R", draw(batch, time, obs)))


def sample_posterior(
    y: Tensor,
    n_samples: int,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    m0: Tensor | None = None,
    P0: Tensor | None = None,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw whole state trajectories from the posterior given the observations.

    Each trajectory is a joint sample of all states. Use it for the uncertainty of a quantity that depends on several
    time steps; the moments at single steps are those of `kalman_smoother`.

    Parameters
    ----------
    y, A, Q, C, R, b, m0, P0, mask
        As for `kalman_filter`.
    n_samples : int
        Number of trajectories for each sequence.
    generator : torch.Generator, optional
        Source of randomness, on the device of y; the default generator of torch if not given.

    Returns
    -------
    (n_samples, batch, time, state)
        Trajectories, in the data type of y; differentiable with respect to all tensors.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value.
    NotPositiveDefiniteError
        If a covariance is not positive definite (a subclass of `InputError`).

    References
    ----------
    Forward filtering, backward sampling: Frühwirth-Schnatter, J. Time Series Anal. 15 (1994) 183-202.
    """
    check_integer("n_samples", n_samples, 1)
    observations = check_observations(y, mask)
    model = check_model(y, *y.shape[:2], A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0, obs=y.shape[2])
    check_generator(generator, y)
    return draw_posterior(model, observations, n_samples, y.dtype, generator)


def draw_posterior(
    model: Model, observations: Observations, n_samples: int, dtype: torch.dtype, generator: torch.Generator | None
) -> Tensor:
    """Draw state trajectories given observations and a model that were checked before."""
    batch, time, _ = observations.y.shape
    state = model.A.shape[-1]
    check_memory("n_samples", 4 * 8 * n_samples * batch * time * state)
    model, observations = to_float64(model, observations)
    moments = filter_auto(model, observations)
    backward = backward_process(model, moments)

    def draw() -> Tensor:
        shape = (n_samples, batch, time, state)
        noise = torch.randn(shape, generator=generator, dtype=dtype, device=model.A.device)
        return noise.to(model.A.dtype)

    # The noise of the backward process has the covariance K P K' + G Q G', with P the filtered covariance, gain G and
    # K = I - G A. Its two parts are drawn separately, because their sum is singular if Q is very small.
    factor = _factor(moments.filtered_cov, "filtered covariance")
    filtered_noise = _every_step(factor, time, draw())
    process_noise = _noise(model.Q, "Q", draw())
    before = filtered_noise[:, :, :-1]
    after = matvec_broadcast(from_second(model.A), before) + process_noise[:, :, 1:]
    shocks = before - _every_step(backward.gain, time - 1, after)
    last = moments.filtered_mean[:, -1:] + filtered_noise[:, :, -1:]
    # Samples are the inner axis of the batch, so that those of one sequence share its gains.
    offsets = torch.cat([backward.offset + shocks, last], 2).permute(2, 1, 0, 3).flatten(1, 2)
    states = AffineScan.apply(offsets, backward.gain.transpose(0, 1), True, uses_scan("auto", model, observations))
    samples = states.unflatten(1, (batch, n_samples)).permute(2, 1, 0, 3).to(dtype)
    check_moments(samples)
    return samples


def _every_step(stack: Tensor, steps: int, vectors: Tensor) -> Tensor:
    """Matrices (batch|1, steps or fewer, n, n) times vectors (samples, batch, steps, n)."""
    return matvec_broadcast(stack[:, step_index(stack, steps)], vectors)


def _noise(noise: Tensor, name: str, standard: Tensor) -> Tensor:
    """Standard normal draws (…, batch, time, dim) given the covariance of Q or R."""
    if noise.ndim == 3:
        return noise.sqrt() * standard
    return matvec_broadcast(_factor(as_covariance(noise), name), standard)


def _factor(cov: Tensor, name: str) -> Tensor:
    """Cholesky factor of a covariance; a diagonal one may have variances of 0."""
    variances = cov.diagonal(dim1=-2, dim2=-1)
    if not bool((cov.detach() - torch.diag_embed(variances.detach())).any()):
        return torch.diag_embed(variances.sqrt())
    return safe_cholesky(cov, name)

"""Forecasts of future states and observations."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kalmanssl.kalman._array_interface import accept_arrays
from kalmanssl.kalman._inputs import add_inputs, check_offset
from kalmanssl.kalman._linalg import symmetrize
from kalmanssl.kalman._model import Model, as_covariance
from kalmanssl.kalman._results import ForecastResult
from kalmanssl.kalman._tensor_checks import all_finite, check_memory, wrong_value
from kalmanssl.kalman._validation import check_model, check_state, check_state_size
from kalmanssl.kalman.backends import predict
from kalmanssl.utils.validation import check_integer

__all__ = ["forecast", "run_forecast"]

# Memory of the tensors of a step, beside their values.
_BYTES_PER_STEP = 2000


@accept_arrays(mean=2, cov=3)
def forecast(
    mean: Tensor,
    cov: Tensor,
    steps: int,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    B: Tensor | None = None,
    u: Tensor | None = None,
    d: Tensor | None = None,
) -> ForecastResult:
    """Compute the moments of the states and observations that follow a given state.

    Parameters
    ----------
    mean, cov : (batch, state), (batch, state, state)
        Moments of the state to start from, usually `filtered_mean[:, -1]` and `filtered_cov[:, -1]`. Arrays of NumPy,
        and moments without a batch axis, are accepted; the fields of the result have the same form.
    steps : int
        Number of steps ahead.
    A, Q, C, R, b, B, u, d
        As for `kalman_filter`, with a time axis of 1 or `steps`. Index 0 leads into the first step ahead; unlike in
        `kalman_filter` it is used.

    Returns
    -------
    ForecastResult
        Moments of the states, and of the observations including their noise.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value.

    Examples
    --------
    The variance of a random walk grows by the process noise at every step.

    >>> import torch
    >>> one = torch.ones(1, 1)
    >>> ahead = forecast(one, one[None], 3, A=one, Q=torch.ones(1), C=one, R=torch.ones(1))
    >>> ahead.state_cov[0, :, 0, 0]
    tensor([2., 3., 4.])
    """
    mean, cov = check_state(mean, cov)
    check_integer("steps", steps, 1)
    b = add_inputs(mean, mean.shape[0], steps, A=A, b=b, B=B, u=u)
    model = check_model(mean, mean.shape[0], steps, A=A, Q=Q, C=C, R=R, b=b)
    check_state_size(mean, model.A.shape[-1])
    ahead = run_forecast(model, mean, cov, steps)
    if d is None:
        return ahead
    offset = check_offset(d, mean, mean.shape[0], steps, model.C.shape[-2])
    return replace(ahead, observation_mean=ahead.observation_mean + offset)


def run_forecast(model: Model, mean: Tensor, cov: Tensor, steps: int) -> ForecastResult:
    """Forecast from a state with a model, both checked before."""
    (obs, state), batch = model.C.shape[-2:], len(mean)
    numbers = batch * steps * (state + state * state + obs + obs * obs)
    check_memory("steps", numbers * mean.element_size() + steps * _BYTES_PER_STEP)
    means, covs = [], []
    transitions = (p.expand(-1, steps, *p.shape[2:]).unbind(1) for p in (model.A, model.b, as_covariance(model.Q)))
    for transition, offset, noise in zip(*transitions, strict=True):
        mean, cov = predict(mean, cov, transition, offset, noise)
        means.append(mean)
        covs.append(cov)
    state_mean, state_cov = torch.stack(means, 1), torch.stack(covs, 1)
    moments = {
        "state_mean": state_mean,
        "state_cov": state_cov,
        "observation_mean": (model.C @ state_mean[..., None])[..., 0],
        "observation_cov": symmetrize(model.C @ state_cov @ model.C.mT) + as_covariance(model.R),
    }
    if not all(all_finite(value) for value in moments.values()):
        raise wrong_value("steps", "the moments overflow: forecast fewer steps, or check A, which lets the state grow")
    return ForecastResult(**moments)

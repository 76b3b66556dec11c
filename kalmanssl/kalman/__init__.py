"""Linear-Gaussian state-space models in torch: Kalman filter, smoother, sampling, forecasts and fitting.

All functions are batched and differentiable, and accept missing values. The model and its time index are the same
everywhere::

    x_0 ~ N(m0, P0)                              first state, before it is observed
    x_t = A[t] x_{t-1} + b[t] + N(0, Q[t])       t = 1, 2, …; A[t], b[t], Q[t] lead into step t, index 0 is not used
    y_t = C[t] x_t + N(0, R[t])                  t = 0, 1, …

Filter five sequences of a noisy oscillation:

>>> import torch
>>> from kalmanssl.kalman import kalman_filter, kalman_smoother, sample_prior
>>> parameters = {
...     "A": torch.tensor([[0.99, -0.1], [0.1, 0.99]]),
...     "Q": torch.tensor([0.01, 0.01]),
...     "C": torch.tensor([[1.0, 0.0]]),
...     "R": torch.tensor([0.5]),
... }
>>> y = sample_prior(5, 200, **parameters, generator=torch.Generator().manual_seed(0)).observations
>>> out = kalman_filter(y, **parameters)
>>> out.filtered_mean.shape, out.filtered_cov.shape, out.log_likelihood.shape
(torch.Size([5, 200, 2]), torch.Size([5, 200, 2, 2]), torch.Size([5, 200]))

**Model object.** `LinearGaussianSSM` holds the parameters, checks them once, and has a method for each task. It fits
them to data by expectation-maximization (`fit_em`) or by gradient (`fit_gradient`). A fit starts from the present
parameters, leaves those in `fixed` as they are, and returns a new model:

>>> from kalmanssl.kalman import LinearGaussianSSM
>>> model = LinearGaussianSSM(**parameters)
>>> start = model.replace(Q=torch.tensor([0.1, 0.1]), R=torch.tensor([1.0]))
>>> fit = start.fit_em(y, fixed=("A", "b", "C", "m0", "P0"))
>>> fit.status, round(fit.model.R.item(), 1)
('converged', 0.5)
>>> fit.model.smooth(y).smoothed_mean.shape
torch.Size([5, 200, 2])

**Shapes.** The batch comes first: observations (batch, time, obs), means (batch, time, state), covariances (batch,
time, state, state). A parameter is constant, such as A (state, state), or has a batch and a time axis, which can both
have length 1: A (batch|1, time|1, state, state). Q and R are variances, (dim,) or (batch|1, time|1, dim), or
covariances, (dim, dim) or (batch|1, time|1, dim, dim); the number of axes tells them apart. m0 is (state,) or (batch,
state). P0 is (state,), (state, state) or (batch, state, state). Log-likelihoods are in nats, one per step, with all
constants.

**NumPy, and single sequences.** If all arguments are arrays of NumPy, so are the fields of the results. One sequence
may be given without a batch axis, and the results then have none:

>>> import numpy as np
>>> arrays = {name: value.numpy() for name, value in parameters.items()}
>>> one = kalman_filter(y[0].numpy(), **arrays)
>>> one.filtered_mean.shape, type(one.filtered_mean)
((200, 2), <class 'numpy.ndarray'>)

**Inputs and offsets.** ``B, u`` add known inputs to the state, ``x_t = A x_{t-1} + b + B u_t``, and ``d`` is an offset
of the observations, ``y_t = C x_t + d``.

**Missing values.** A mask, (batch, time, obs) or (batch, time) for whole steps, is True where observed. Missing values
affect neither the results nor the gradients. NaN without a mask raises an error.

>>> mask = torch.rand(y.shape, generator=torch.Generator().manual_seed(1)) < 0.9
>>> with_gaps = torch.where(mask, y, float("nan"))
>>> bool(kalman_filter(with_gaps, **parameters, mask=torch.isfinite(with_gaps)).log_likelihood.isfinite().all())
True

Pad sequences of different lengths at their ends, and set the mask to False there:

>>> lengths = torch.tensor([200, 150, 120, 200, 80])
>>> mask = torch.arange(200) < lengths[:, None]
>>> last = kalman_filter(y, **parameters, mask=mask).filtered_mean[torch.arange(5), lengths - 1]

**Gradients.** Results are differentiable with respect to all tensors, so that parameters can be fitted by any optimizer
of torch, or be the output of a network, different at each step:

>>> log_R = torch.zeros(1, requires_grad=True)
>>> (-kalman_filter(y, **{**parameters, "R": log_R.exp()}).log_likelihood.mean()).backward()
>>> bool(log_R.grad > 0)  # the noise is smaller than exp(0)
True

**Precision and errors.** Results have the data type of y. The computation uses float64 where float32 is not accurate
enough or float64 costs little; the argument `precision` of `kalman_filter` sets it, with a `PrecisionWarning` if R is
too small for float32. `FilterResult.status` reports skipped steps, added jitter and the smallest variance of each
sequence. Wrong arguments raise `kalmanssl.errors.InputError`, a ValueError that names the argument. A covariance that
cannot be factorized raises `NotPositiveDefiniteError`, so that NaN is never returned silently.

**Speed.** On a CPU the recursions are compiled by numba at the first call and cached on disk. Other devices use torch.
If neither the parameters nor the mask differ between sequences, covariances are computed once for the whole batch. If
nothing varies over time either, they are computed only until they converge; a long sequence then costs little more than
its means. Predictions, gains and innovations are computed when they are first accessed.

**Functions.**

=====================================================  =============================================================
state given the observations so far                    `kalman_filter`
state given all observations                           `kalman_smoother`
filter online, one observation at a time               `kalman_step`; its two parts: `kalman_predict`, `kalman_update`
state of a nonlinear model                             `extended_kalman_filter`, `unscented_kalman_filter`
future states and observations                         `forecast`
trajectories drawn from the posterior                  `sample_posterior`
states and observations drawn from the model           `sample_prior`
log-likelihood of the data                             `kalman_filter(…).log_likelihood`, or `LinearGaussianSSM`
irregular sampling, from a model in continuous time    `discretize`
tests of the model on its innovations                  `innovation_diagnostics`; from tensors `diagnose_innovations`
steady-state gain and covariance                       `steady_state`
residuals divided by their predicted covariance        `whiten`
Cholesky factor of a covariance, robust to rounding    `safe_cholesky`
=====================================================  =============================================================

>>> from kalmanssl.kalman import discretize, forecast, innovation_diagnostics, steady_state
>>> ahead = forecast(out.filtered_mean[:, -1], out.filtered_cov[:, -1], 10, **parameters)
>>> ahead.observation_mean.shape
torch.Size([5, 10, 1])
>>> innovation_diagnostics(out).consistent
True
>>> limit = steady_state(**parameters)
>>> torch.allclose(limit.filtered_cov, out.filtered_cov[0, -1], rtol=1e-4)
True
>>> stamps = torch.tensor([0.0, 0.1, 0.25, 0.9])
>>> steps = discretize(torch.tensor([[-1.0]]), torch.tensor([2.0]), stamps.diff(prepend=stamps[:1]))
>>> irregular = kalman_filter(y[:, :4], **steps, C=torch.ones(1, 1), R=torch.ones(1))
"""

from kalmanssl.kalman._array_interface import ResultView as ResultView
from kalmanssl.kalman._diagnostics import InnovationDiagnostics as InnovationDiagnostics
from kalmanssl.kalman._diagnostics import diagnose_innovations as diagnose_innovations
from kalmanssl.kalman._diagnostics import innovation_diagnostics as innovation_diagnostics
from kalmanssl.kalman._discretization import discretize as discretize
from kalmanssl.kalman._dtypes import PrecisionWarning as PrecisionWarning
from kalmanssl.kalman._filtering import kalman_filter as kalman_filter
from kalmanssl.kalman._filtering import kalman_step as kalman_step
from kalmanssl.kalman._fit_result import FitResult as FitResult
from kalmanssl.kalman._forecasting import forecast as forecast
from kalmanssl.kalman._linalg import JitterWarning as JitterWarning
from kalmanssl.kalman._linalg import NotPositiveDefiniteError as NotPositiveDefiniteError
from kalmanssl.kalman._linalg import safe_cholesky as safe_cholesky
from kalmanssl.kalman._nonlinear import extended_kalman_filter as extended_kalman_filter
from kalmanssl.kalman._nonlinear import unscented_kalman_filter as unscented_kalman_filter
from kalmanssl.kalman._results import FilterResult as FilterResult
from kalmanssl.kalman._results import ForecastResult as ForecastResult
from kalmanssl.kalman._results import PriorSample as PriorSample
from kalmanssl.kalman._results import SmootherResult as SmootherResult
from kalmanssl.kalman._results import Status as Status
from kalmanssl.kalman._results import StepResult as StepResult
from kalmanssl.kalman._sampling import sample_posterior as sample_posterior
from kalmanssl.kalman._sampling import sample_prior as sample_prior
from kalmanssl.kalman._smoothing import kalman_smoother as kalman_smoother
from kalmanssl.kalman._state_space_model import LinearGaussianSSM as LinearGaussianSSM
from kalmanssl.kalman._steady_state import SteadyState as SteadyState
from kalmanssl.kalman._steady_state import steady_state as steady_state
from kalmanssl.kalman._steps import UpdateResult as UpdateResult
from kalmanssl.kalman._steps import kalman_predict as kalman_predict
from kalmanssl.kalman._steps import kalman_update as kalman_update
from kalmanssl.kalman._whitening import whiten as whiten
from kalmanssl.kalman.kernels import SlowPathWarning as SlowPathWarning

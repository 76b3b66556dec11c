"""Linear-Gaussian state-space models in torch: differentiable, batched, with missing values. No learning, no data.

The model, with one convention for time throughout::

    x_0 ~ N(m0, P0)                              the first state, before it is observed
    x_t = A[t] x_{t-1} + b[t] + N(0, Q[t])       A[t], b[t], Q[t] lead into step t, t = 1, 2, …; index 0 is not used
    y_t = C[t] x_t + N(0, R[t])                  t = 0, 1, …

Filter five sequences of a slow oscillation, seen through one noisy channel:

>>> import torch
>>> from kalmanssl.kalman import kalman_filter, kalman_smoother, sample_prior
>>> model = {
...     "A": torch.tensor([[0.99, -0.1], [0.1, 0.99]]),
...     "Q": torch.tensor([0.01, 0.01]),
...     "C": torch.tensor([[1.0, 0.0]]),
...     "R": torch.tensor([0.5]),
... }
>>> y = sample_prior(5, 200, **model, generator=torch.Generator().manual_seed(0)).observations
>>> out = kalman_filter(y, **model)
>>> out.filtered_mean.shape, out.filtered_cov.shape, out.log_likelihood.shape
(torch.Size([5, 200, 2]), torch.Size([5, 200, 2, 2]), torch.Size([5, 200]))

**Shapes.** Batch first: observations (batch, time, obs), means (batch, time, state), covariances (batch, time, state,
state). A parameter is constant, such as A (state, state), or has both a batch and a time axis, either of which may be
1: A (batch|1, time|1, state, state). Q and R are variances, (dim,) or (batch|1, time|1, dim), or covariances, (dim,
dim) or (batch|1, time|1, dim, dim): the number of axes tells. m0 is (state,) or (batch, state); P0 (state,), (state,
state) or (batch, state, state). Log-likelihoods are in nats, with every constant, one for each step.

**Missing values.** A mask (batch, time, obs), or (batch, time) for whole steps, is True where observed. What is missing
has no influence, on gradients neither, and the likelihood is exactly that of what was seen. NaN without a mask is
refused.

>>> mask = torch.rand(y.shape, generator=torch.Generator().manual_seed(1)) < 0.9
>>> holes = torch.where(mask, y, float("nan"))
>>> bool(kalman_filter(holes, **model, mask=torch.isfinite(holes)).log_likelihood.isfinite().all())
True

Sequences of different lengths go into one batch, filled up at the end, where the mask is False:

>>> lengths = torch.tensor([200, 150, 120, 200, 80])
>>> mask = torch.arange(200) < lengths[:, None]
>>> last = kalman_filter(y, **model, mask=mask).filtered_mean[torch.arange(5), lengths - 1]

**Derivatives.** Everything is differentiable with respect to everything, so that parameters can be fitted by any
optimizer of torch, or be what a network puts out, different at each step:

>>> log_R = torch.zeros(1, requires_grad=True)
>>> (-kalman_filter(y, **{**model, "R": log_R.exp()}).log_likelihood.mean()).backward()
>>> bool(log_R.grad > 0)  # the noise is smaller than exp(0)
True

**Precision.** Results have the data type of y. By default the computation has it too, with float64 where float32 would
not do or where it costs little; `precision` of `kalman_filter` sets it. `FilterResult.status` says, per sequence, how
the filter fared. A covariance that cannot be factorized raises `NotPositiveDefiniteError`: there is never a silent NaN.

**What costs what.** On a CPU everything runs in compiled code (numba; compiled on the first call and kept on disk, on
as many cores as torch uses), on other devices in torch. Where neither the parameters nor the mask differ between
sequences, covariances are computed once for the batch; where nothing changes over time either, only until they settle,
so that a long sequence costs little more than its means. Predictions, gains and innovations are computed from the
filtered moments when first asked for.

**Which function for which question.**

=====================================================  =============================================================
where is the state now, given what was seen so far     `kalman_filter`
where was it, given everything                         `kalman_smoother`
the same, as each observation comes in                 `kalman_step`; its halves are `kalman_predict`, `kalman_update`
what comes next                                        `forecast`
which whole trajectories are likely                    `sample_posterior`
what would data of this model look like                `sample_prior`
how likely are the data, and under which parameters    `kalman_filter(…).log_likelihood`, by step and differentiable
observations at irregular times                        `discretize`, from a model in continuous time
does the model fit                                     `innovation_diagnostics`; from tensors `diagnose_innovations`
to which gain does it settle, how fast does it forget  `steady_state`
a Cholesky factor of a covariance, safe from rounding  `safe_cholesky`
=====================================================  =============================================================

>>> from kalmanssl.kalman import discretize, forecast, innovation_diagnostics, steady_state
>>> ahead = forecast(out.filtered_mean[:, -1], out.filtered_cov[:, -1], 10, **model)
>>> ahead.observation_mean.shape
torch.Size([5, 10, 1])
>>> innovation_diagnostics(out).consistent
True
>>> settled = steady_state(**model)
>>> torch.allclose(settled.filtered_cov, out.filtered_cov[0, -1], rtol=1e-4)
True
>>> stamps = torch.tensor([0.0, 0.1, 0.25, 0.9])
>>> steps = discretize(torch.tensor([[-1.0]]), torch.tensor([2.0]), stamps.diff(prepend=stamps[:1]))
>>> irregular = kalman_filter(y[:, :4], **steps, C=torch.ones(1, 1), R=torch.ones(1))
"""

from kalmanssl.kalman._diagnostics import InnovationDiagnostics as InnovationDiagnostics
from kalmanssl.kalman._diagnostics import diagnose_innovations as diagnose_innovations
from kalmanssl.kalman._diagnostics import innovation_diagnostics as innovation_diagnostics
from kalmanssl.kalman._discretization import discretize as discretize
from kalmanssl.kalman._filtering import kalman_filter as kalman_filter
from kalmanssl.kalman._filtering import kalman_step as kalman_step
from kalmanssl.kalman._forecasting import forecast as forecast
from kalmanssl.kalman._linalg import JitterWarning as JitterWarning
from kalmanssl.kalman._linalg import NotPositiveDefiniteError as NotPositiveDefiniteError
from kalmanssl.kalman._linalg import safe_cholesky as safe_cholesky
from kalmanssl.kalman._results import FilterResult as FilterResult
from kalmanssl.kalman._results import ForecastResult as ForecastResult
from kalmanssl.kalman._results import PriorSample as PriorSample
from kalmanssl.kalman._results import SmootherResult as SmootherResult
from kalmanssl.kalman._results import Status as Status
from kalmanssl.kalman._results import StepResult as StepResult
from kalmanssl.kalman._sampling import sample_posterior as sample_posterior
from kalmanssl.kalman._sampling import sample_prior as sample_prior
from kalmanssl.kalman._smoothing import kalman_smoother as kalman_smoother
from kalmanssl.kalman._steady_state import SteadyState as SteadyState
from kalmanssl.kalman._steady_state import steady_state as steady_state
from kalmanssl.kalman._steps import UpdateResult as UpdateResult
from kalmanssl.kalman._steps import kalman_predict as kalman_predict
from kalmanssl.kalman._steps import kalman_update as kalman_update
from kalmanssl.kalman.kernels import SlowPathWarning as SlowPathWarning

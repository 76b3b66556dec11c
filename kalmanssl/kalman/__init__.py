"""Linear-Gaussian filtering in torch: differentiable, batched, no learning and no data.

The model, with one convention for time throughout::

    x_0 ~ N(m0, P0)                              the first state, before it is observed
    x_t = A[t] x_{t-1} + b[t] + N(0, Q[t])       A[t], b[t], Q[t] lead into step t, t = 1, 2, …
    y_t = C[t] x_t + N(0, R[t])                  t = 0, 1, …

Shapes are batch first: observations (batch, time, obs), means (batch, time, state), covariances (batch, time, state,
state). A parameter is constant, such as A (state, state), or has both a batch and a time axis, either of which may be
1: A (batch|1, time|1, state, state). Noise covariances are given as variances, (dim,) or (batch|1, time|1, dim), or in
full, (dim, dim) or (batch|1, time|1, dim, dim); the number of axes tells. Missing values are told by a mask, True where
observed. Log-likelihoods are in nats, with every constant. What is the same for all sequences is computed once.

Functions: `kalman_filter`, `kalman_smoother`, `kalman_step` (one observation as it comes in), `forecast`,
`sample_prior` (from the model), `sample_posterior` (given the observations); and `StationaryFilter`, which goes through
long sequences of a constant model with covariances that are computed until they settle.
"""

from kalmanssl.kalman.factorize import JitterWarning as JitterWarning
from kalmanssl.kalman.factorize import NotPositiveDefiniteError as NotPositiveDefiniteError
from kalmanssl.kalman.filtering import kalman_filter as kalman_filter
from kalmanssl.kalman.filtering import kalman_step as kalman_step
from kalmanssl.kalman.forecasting import forecast as forecast
from kalmanssl.kalman.results import FilterResult as FilterResult
from kalmanssl.kalman.results import ForecastResult as ForecastResult
from kalmanssl.kalman.results import PriorSample as PriorSample
from kalmanssl.kalman.results import SmootherResult as SmootherResult
from kalmanssl.kalman.results import StepResult as StepResult
from kalmanssl.kalman.sampling import sample_posterior as sample_posterior
from kalmanssl.kalman.sampling import sample_prior as sample_prior
from kalmanssl.kalman.smoothing import kalman_smoother as kalman_smoother
from kalmanssl.kalman.stationary import StationaryFilter as StationaryFilter
from kalmanssl.kalman.stationary import StationaryResult as StationaryResult

"""A linear-Gaussian state-space model as an object, with methods for inference, sampling, forecasts and fitting."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kalmanssl.errors import InputError, first_line
from kalmanssl.kalman._em import run_em
from kalmanssl.kalman._filtering import run_filter
from kalmanssl.kalman._fit_result import FitResult, FitStatus
from kalmanssl.kalman._forecasting import run_forecast
from kalmanssl.kalman._gradient_fit import run_gradient_fit
from kalmanssl.kalman._model import Model, Observations
from kalmanssl.kalman._results import FilterResult, ForecastResult, PriorSample, SmootherResult
from kalmanssl.kalman._sampling import draw_posterior, draw_prior
from kalmanssl.kalman._smoothing import run_smoother
from kalmanssl.kalman._tensor_checks import check_layout, check_memory, wrong_value
from kalmanssl.kalman._validation import check_generator, check_model, check_observations, check_sizes
from kalmanssl.utils.precision import finest_dtype
from kalmanssl.utils.validation import check_integer, check_positive, unknown_name_error

__all__ = ["LinearGaussianSSM"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearGaussianSSM:
    """Linear-Gaussian state-space model with fixed parameters; fitting returns a new model.

    ::

        x_0 ~ N(m0, P0)
        x_t = A[t] x_{t-1} + b[t] + N(0, Q[t])     t = 1, 2, …
        y_t = C[t] x_t + N(0, R[t])                t = 0, 1, …

    The shapes are those of `kalman_filter`. Parameters are checked when the model is made, and must not be changed in
    place afterwards. They may require gradients; every result is then differentiable with respect to them.

    Parameters
    ----------
    A : (state, state) or (batch|1, time|1, state, state)
        Transition.
    Q : (state,) or (batch|1, time|1, state), (state, state) or (batch|1, time|1, state, state)
        Variances of the process noise, or its covariance.
    C : (obs, state) or (batch|1, time|1, obs, state)
        Emission.
    R : (obs,) or (batch|1, time|1, obs), (obs, obs) or (batch|1, time|1, obs, obs)
        Variances of the observation noise, or its covariance.
    b : (state,) or (batch|1, time|1, state), optional
        Offset; zero by default.
    m0 : (state,) or (batch, state), optional
        Mean of the first state before it is observed; zero by default.
    P0 : (state,), (state, state) or (batch, state, state), optional
        Variances or covariance of the first state before it is observed; the identity by default.

    Raises
    ------
    InputError
        If a parameter has a wrong type, shape or value; the attribute `parameter` of the error is its name.

    References
    ----------
    Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Chapters 6, 12 and 16.

    Examples
    --------
    >>> import torch
    >>> model = LinearGaussianSSM(A=0.9 * torch.eye(2), Q=torch.ones(2), C=torch.eye(2), R=torch.ones(2))
    >>> y = model.sample(5, 100, generator=torch.Generator().manual_seed(0)).observations
    >>> model.smooth(y).smoothed_mean.shape
    torch.Size([5, 100, 2])
    >>> fit = model.replace(R=3 * torch.ones(2)).fit_em(y, fixed=("b", "C", "m0", "P0"))
    >>> fit.status, bool(fit.log_likelihood[-1] > fit.log_likelihood[0])
    ('converged', True)
    """

    A: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor
    b: Tensor = None  # type: ignore[assignment]
    m0: Tensor = None  # type: ignore[assignment]
    P0: Tensor = None  # type: ignore[assignment]
    _model: Model = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given: dict[str, Any] = self.to_dict()
        batch, time = _sizes(given)
        model = check_model(self.A, batch, time, **given)
        state = self.A.shape[-1]
        if self.b is None:
            object.__setattr__(self, "b", self.A.new_zeros(state))
        if self.m0 is None:
            object.__setattr__(self, "m0", self.A.new_zeros(state))
        if self.P0 is None:
            object.__setattr__(self, "P0", torch.eye(state, dtype=self.A.dtype, device=self.A.device))
        object.__setattr__(self, "_model", model)

    @classmethod
    def random(
        cls,
        state_dim: int,
        obs_dim: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> LinearGaussianSSM:
        """Draw a stable model to start a fit from, for observations of mean 0 and variance 1.

        Parameters
        ----------
        state_dim, obs_dim : int
        generator : torch.Generator, optional
            Source of randomness, on the CPU; the default generator of torch if not given.
        dtype : torch.dtype
            Data type of the parameters.

        Returns
        -------
        LinearGaussianSSM
            A is 0.9 times a random rotation; Q and R are diagonal; P0 is the stationary covariance, which is the
            identity.
        """
        check_integer("state_dim", state_dim, 1)
        check_integer("obs_dim", obs_dim, 1)
        check_generator(generator, torch.empty(0))
        if dtype not in (torch.float32, torch.float64):
            raise wrong_value("dtype", f"expected torch.float32 or torch.float64, got {dtype!r}")
        check_memory("state_dim", 8 * state_dim * (3 * state_dim + obs_dim))
        rotation = torch.linalg.qr(torch.randn(state_dim, state_dim, generator=generator, dtype=dtype))[0]
        return cls(
            A=0.9 * rotation,
            Q=torch.full((state_dim,), 0.19, dtype=dtype),
            C=torch.randn(obs_dim, state_dim, generator=generator, dtype=dtype) / (2 * state_dim) ** 0.5,
            R=torch.full((obs_dim,), 0.5, dtype=dtype),
        )

    @property
    def state_dim(self) -> int:
        """Size of the state."""
        return self.C.shape[-1]

    @property
    def obs_dim(self) -> int:
        """Number of observed channels."""
        return self.C.shape[-2]

    def to_dict(self) -> dict[str, Tensor]:
        """Return the parameters by name, as keyword arguments of the functions of this package."""
        return {name: getattr(self, name) for name in _NAMES}

    def to(self, *args: Any, **kwargs: Any) -> LinearGaussianSSM:
        """Return the model in another data type or on another device; arguments as for `torch.Tensor.to`."""
        try:
            moved = {name: value.to(*args, **kwargs) for name, value in self.to_dict().items()}
        except (RuntimeError, TypeError, AssertionError) as error:
            raise InputError(f"to: {first_line(error)[:200]}; pass a data type or a device") from None
        return type(self)(**moved)

    def replace(self, **changes: Tensor) -> LinearGaussianSSM:
        """Return the model with some parameters changed."""
        for name in changes:
            if name not in _NAMES:
                raise unknown_name_error("parameter", name, _NAMES)
        return type(self)(**(self.to_dict() | changes))

    def filter(self, y: Tensor, *, mask: Tensor | None = None) -> FilterResult:
        """Moments of each state given the observations up to it; see `kalman_filter`.

        Parameters
        ----------
        y : (batch, time, obs)
            Observations, in the data type and on the device of the parameters.
        mask : (batch, time, obs) or (batch, time), optional
            True where observed; all True by default. Values elsewhere, NaN included, are ignored.
        """
        observations = self._check(y, mask)
        return run_filter(self._model, observations, y.dtype)

    def smooth(self, y: Tensor, *, mask: Tensor | None = None) -> SmootherResult:
        """Moments of each state given all observations; see `kalman_smoother`. Arguments as for `filter`."""
        observations = self._check(y, mask)
        return run_smoother(self._model, observations, y.dtype)

    def log_likelihood(self, y: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Log-density (batch,) of the observed values of each sequence, in nats. Arguments as for `filter`."""
        return self.filter(y, mask=mask).log_likelihood.sum(1)

    def sample(self, batch: int, time: int, *, generator: torch.Generator | None = None) -> PriorSample:
        """Draw states and observations from the model; see `sample_prior`."""
        check_generator(generator, self.A)
        check_integer("batch", batch, 1)
        check_integer("time", time, 1)
        parameters: dict[str, Any] = self.to_dict()
        model = check_model(self.A, batch, time, **parameters)
        return draw_prior(model, batch, time, generator)

    def sample_posterior(
        self, y: Tensor, n_samples: int, *, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw state trajectories (n_samples, batch, time, state) given observations; see `sample_posterior`."""
        check_generator(generator, self.A)
        check_integer("n_samples", n_samples, 1)
        observations = self._check(y, mask)
        return draw_posterior(self._model, observations, n_samples, y.dtype, generator)

    def forecast(self, y: Tensor, steps: int, *, mask: Tensor | None = None) -> ForecastResult:
        """Moments of the states and observations in the `steps` steps after the end of y; see `forecast`.

        A model that varies over time raises `InputError`: use the function `forecast`, which takes the parameters of
        the steps ahead.
        """
        check_integer("steps", steps, 1)
        for name in ("A", "b", "Q", "C", "R"):
            if getattr(self._model, name).shape[1] != 1:
                raise wrong_value(
                    name, "varies over time; call the function forecast with the parameters of the steps ahead"
                )
        filtered = self.filter(y, mask=mask)
        return run_forecast(self._model, filtered.filtered_mean[:, -1], filtered.filtered_cov[:, -1], steps)

    def fit_em(
        self,
        y: Tensor,
        *,
        mask: Tensor | None = None,
        fixed: Collection[str] = (),
        max_iterations: int = 200,
        tolerance: float = 1e-6,
        on_iteration_end: Callable[[int, float], None] | None = None,
    ) -> FitResult:
        """Fit the parameters by expectation-maximization, from their present values.

        Every parameter is fitted that is not in `fixed`, also b, m0 and P0 that were left to their defaults. The
        log-likelihood never falls. Progress is fast at first and slow near the optimum; `fit_gradient` is often
        faster there. A diagonal Q, R or P0 stays diagonal. With few sequences, m0 and P0 are poorly determined: fix
        them. A, C and Q are determined up to a linear change of the state only.

        Parameters
        ----------
        y, mask
            As for `filter`. Missing values and sequences of different lengths are treated exactly.
        fixed : collection of str
            Names of parameters that keep their values, such as ``("C", "m0")``.
        max_iterations : int
            Largest number of iterations.
        tolerance : float
            Stop when the log-likelihood rises by less than this in an iteration, in nats per observed value.
        on_iteration_end : callable, optional
            Called with the number of the iteration, 0 for the start, and the log-likelihood in nats.

        Returns
        -------
        FitResult

        Raises
        ------
        InputError
            If an argument is wrong, or a parameter varies over sequences or time.

        References
        ----------
        Shumway & Stoffer, J. Time Series Anal. 3 (1982) 253-264; Ghahramani & Hinton, Technical Report CRG-TR-96-2,
        University of Toronto (1996).
        """
        model, observations = self._prepare_fit(y, mask, fixed, max_iterations, tolerance, on_iteration_end)
        settings = (max_iterations, tolerance, on_iteration_end)
        with torch.no_grad():
            fitted, history, status = run_em(model._model, observations, fixed, self.P0.ndim == 1, *settings)
        changes = {name: value for name, value in fitted.tensors().items() if name not in fixed}
        if "P0" in changes and self.P0.ndim == 1:
            changes["P0"] = changes["P0"].diagonal(dim1=-2, dim2=-1)
        return self._result(changes, history, status)

    def fit_gradient(
        self,
        y: Tensor,
        *,
        mask: Tensor | None = None,
        fixed: Collection[str] = (),
        max_iterations: int = 500,
        tolerance: float = 1e-8,
        on_iteration_end: Callable[[int, float], None] | None = None,
    ) -> FitResult:
        """Fit the parameters by maximum likelihood with L-BFGS, from their present values.

        Variances are optimized as logarithms, covariances as Cholesky factors with the logarithms of their diagonals,
        so that they stay positive. Parameters may vary over sequences or time. For other optimizers or priors, write
        the loop with `log_likelihood`, which is differentiable.

        Parameters
        ----------
        y, mask, fixed, max_iterations, on_iteration_end
            As for `fit_em`.
        tolerance : float
            Stop when the log-likelihood, in nats per observed value, rises by less than this in an iteration, or all
            of its derivatives are smaller.

        Returns
        -------
        FitResult

        Raises
        ------
        InputError
            If an argument is wrong, or a variance to be fitted is 0.

        References
        ----------
        Zhu, Byrd, Lu & Nocedal, ACM Trans. Math. Softw. 23 (1997) 550-560 (L-BFGS-B).
        """
        model, observations = self._prepare_fit(y, mask, fixed, max_iterations, tolerance, on_iteration_end)
        settings = (max_iterations, tolerance, on_iteration_end)
        fitted, history, status = run_gradient_fit(model.to_dict(), observations, fixed, *settings)
        return self._result({k: v for k, v in fitted.items() if k not in fixed}, history, status)

    def _check(self, y: Tensor, mask: Tensor | None) -> Observations:
        """Check observations and their mask against the model."""
        observations = check_observations(y, mask)
        check_sizes(self._model, y)
        return observations

    def _prepare_fit(
        self,
        y: Tensor,
        mask: Tensor | None,
        fixed: Collection[str],
        max_iterations: int,
        tolerance: float,
        on_iteration_end: Callable[[int, float], None] | None,
    ) -> tuple[LinearGaussianSSM, Observations]:
        """Check the arguments of a fit; return the model and the observations in float64, without gradients."""
        if isinstance(fixed, str) or not isinstance(fixed, Collection) or not all(name in _NAMES for name in fixed):
            raise wrong_value("fixed", f"expected a collection of names from {', '.join(_NAMES)}, got {fixed!r}")
        if set(fixed) == set(_NAMES):
            raise wrong_value("fixed", "all parameters are fixed, so that there is nothing to fit")
        check_integer("max_iterations", max_iterations, 1)
        check_positive("tolerance", tolerance)
        if on_iteration_end is not None and not callable(on_iteration_end):
            raise wrong_value("on_iteration_end", f"expected a function, got {type(on_iteration_end).__name__}")
        self._check(y, mask)
        precision = finest_dtype(self.A)
        model = type(self)(**{name: value.detach().to(precision) for name, value in self.to_dict().items()})
        return model, check_observations(y.detach().to(precision), mask)

    def _result(self, changes: dict[str, Tensor], history: list[float], status: FitStatus) -> FitResult:
        """Return a fit, with the changed parameters in the shapes and the data type of this model."""
        shaped = {k: v.reshape(getattr(self, k).shape).to(self.A.dtype) for k, v in changes.items()}
        return FitResult(self.replace(**shaped), torch.tensor(history, dtype=torch.float64), status)


_NAMES = ("A", "Q", "C", "R", "b", "m0", "P0")


def _sizes(parameters: dict[str, Tensor | None]) -> tuple[int, int]:
    """Numbers of sequences and steps that the parameters are given for; 1 where nothing varies."""
    batch = time = 1
    for name, value in parameters.items():
        if not isinstance(value, Tensor):
            continue
        check_layout(name, value)
        constant = {"A": (2,), "C": (2,), "b": (1,), "Q": (1, 2), "R": (1, 2), "m0": (1,), "P0": (1, 2)}[name]
        if value.ndim in constant:
            continue
        batch = max(batch, value.shape[0]) if value.ndim else batch
        if name not in ("m0", "P0") and value.ndim > 1:
            time = max(time, value.shape[1])
    return batch, time

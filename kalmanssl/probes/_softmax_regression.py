"""Multinomial logistic regression that is fast at many samples and says how far it is from its optimum.

Minimizes, over the weights W and biases c of standardized features x,

    mean of -log softmax(W x + c)_label  +  (penalty / 2) (|W|² + |c - log share of each class|²)

with L-BFGS. Features of networks are strongly correlated, and the loss then is a long narrow valley; in coordinates in
which its curvature is about one in every direction (principal axes of the features, each divided by
sqrt(λ / classes + penalty)) the same minimum takes a third of the steps, or fewer. As every parameter is penalized, the
loss is strongly convex, and a gradient g proves that no parameters are better by more than |g|² / (2 penalty): this
*gap* is what the fit stops at. Source: Nocedal & Wright (2006), Numerical Optimization, section 7.2; Boyd &
Vandenberghe (2004), Convex Optimization, Eq. 9.9.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

__all__ = ["SoftmaxRegression", "fit_path"]

_ROUNDS = 1000
_MEMORY = 20


@dataclass(frozen=True)
class SoftmaxRegression:
    """A fit.

    Attributes
    ----------
    weight : Tensor
        (dims, classes).
    bias : Tensor
        (classes,).
    penalty : float
    gap : float
        Largest amount, in nats per sample, by which the penalized loss can be above its minimum.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    gap: float

    def logits(self, x: Tensor) -> Tensor:
        """Unnormalized log-probabilities (samples, classes) of features `x` (samples, dims)."""
        return torch.addmm(self.bias, x, self.weight)

    def log_loss(self, x: Tensor, labels: Tensor) -> float:
        """Mean of minus the log-probability of the labels, in nats per sample."""
        return float(torch.nn.functional.cross_entropy(self.logits(x), labels))


class _Problem:
    """The data in rotated coordinates, from which every penalty's own coordinates are a scale per axis away."""

    def __init__(self, x: Tensor, labels: Tensor, classes: int) -> None:
        self.labels, self.classes = labels, classes
        self.eigenvalues, self.axes = torch.linalg.eigh(x.double().T @ x.double() / len(x))
        self.eigenvalues.clamp_(min=0)
        self.x = x @ self.axes.to(x.dtype)
        self.prior = (torch.bincount(labels, minlength=classes).double() / len(labels)).log()

    def fit(self, penalty: float, tolerance: float, start: np.ndarray | None) -> tuple[SoftmaxRegression, np.ndarray]:
        """Fit from a start (dims + 1, classes) in rotated coordinates; also return the end in them."""
        dims = self.x.shape[1]
        # The last row is the bias, as a deviation from the log share of the class.
        scale = 1 / np.sqrt(np.append(self.eigenvalues.numpy(), 1.0) / self.classes + penalty)[:, None]
        rows = torch.arange(len(self.x))
        first = np.zeros((dims + 1, self.classes)) if start is None else start
        gap, best = math.inf, (first / scale).ravel()

        def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal gap
            point = torch.from_numpy(flat.reshape(dims + 1, self.classes) * scale)
            log_prob = torch.addmm((self.prior + point[-1]).to(self.x), self.x, point[:-1].to(self.x)).log_softmax(1)
            loss = -float(log_prob[rows, self.labels].mean(dtype=torch.float64))
            residual = log_prob.exp_()
            residual[rows, self.labels] -= 1
            slope = torch.cat([self.x.T @ residual, residual.sum(0, keepdim=True)]).double() / len(self.x)
            gradient = slope + penalty * point
            gap = float(gradient.square().sum()) / (2 * penalty)
            return loss + 0.5 * penalty * float(point.square().sum()), (gradient.numpy() * scale).ravel()

        def stop_when_close(intermediate_result: OptimizeResult) -> None:
            nonlocal best
            best = intermediate_result.x
            if gap <= tolerance:
                raise StopIteration

        minimize(
            value_and_gradient,
            best,
            jac=True,
            method="L-BFGS-B",
            callback=stop_when_close,
            options={"maxiter": _ROUNDS, "maxfun": 2 * _ROUNDS, "maxcor": _MEMORY, "ftol": 0.0, "gtol": 0.0},
        )
        value_and_gradient(best)
        if gap > tolerance:
            warnings.warn(
                f"the logistic regression with penalty {penalty:g} may be above its minimum by {gap:.2g} nats per "
                f"sample, more than {tolerance:g}",
                ConvergenceWarning,
                stacklevel=3,
            )
        end = best.reshape(dims + 1, self.classes) * scale
        weight, bias = self.axes @ torch.from_numpy(end[:-1]), self.prior + torch.from_numpy(end[-1])
        return SoftmaxRegression(weight.to(self.x), bias.to(self.x), penalty, gap), end


def fit_path(
    x: Tensor, labels: Tensor, classes: int, penalties: list[float], tolerance: float
) -> Iterator[SoftmaxRegression]:
    """Fit for one penalty after the other, each from where the last one ended.

    Parameters
    ----------
    x : (samples, dims) float32
        Of mean 0 and variance 1 in each dimension, or about that.
    labels : (samples,) int64
        From 0 to `classes` - 1, each of which occurs.
    classes : int
    penalties : list of float
        From strong to weak.
    tolerance : float
        Gap to stop at, nats per sample.

    Yields
    ------
    SoftmaxRegression
        With a `ConvergenceWarning` if rounding or a thousand steps kept it from reaching the tolerance.
    """
    problem, point = _Problem(x, labels, classes), None
    for penalty in penalties:
        found, point = problem.fit(penalty, tolerance, point)
        yield found

"""Memory that a fit needs, estimated before it begins, so that it is refused instead of ended by the system."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from kalmanssl.training import choose_device
from kalmanssl.utils.memory import check_memory

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["check_fit_memory", "check_model_memory", "count_weights"]

# Lowest multiples that were measured in fits on the CPU: the estimates must not refuse what would succeed.
_COPIES_OF_WEIGHTS = 6  # gradients, two moments of the optimizer, best and last weights
_STATE_MATRICES = 30  # of the filter and its gradient, in double precision
_COPIES_OF_ACTIVATIONS = 2


def check_model_memory(estimator: KalmanSSL) -> None:
    """Raise `InputError` if the weights of the model of an estimator need more memory than is available.

    Its `n_features_in_` must be set.
    """
    _check(estimator, {name: 4.0 * count for name, count in _weights(estimator).items()}, "the model")


def check_fit_memory(estimator: KalmanSSL) -> None:
    """Raise `InputError` if the training of an estimator needs more memory than is available.

    The attributes that describe the data (`n_features_in_`, `bins_per_step_`, `window_`) must be set. On a GPU only the
    weights count, which are initialized on the CPU.
    """
    need = {name: 4.0 * _COPIES_OF_WEIGHTS * count for name, count in _weights(estimator).items()}
    if choose_device(estimator.device).type == "cpu":
        steps = estimator.window_ // estimator.bins_per_step_
        rows = float(estimator.batch_size) * steps
        need["state_dim"] += 8.0 * _STATE_MATRICES * float(estimator.state_dim) ** 2
        if not estimator.noise == estimator.process_noise == "constant":  # each window has covariances of its own
            need["state_dim"] += 8.0 * rows * float(estimator.state_dim) ** 2
        widths = [] if estimator.encoder is not None else list(estimator.hidden)
        inputs = estimator.n_features_in_ * (1 if estimator.encoder is not None else estimator.encoder_window)
        columns = inputs + sum(map(int, widths)) + estimator.latent_dim + estimator.state_dim
        largest = max(("batch_size", "encoder_window", "latent_dim"), key=lambda name: int(getattr(estimator, name)))
        need[largest] = need.get(largest, 0.0) + 4.0 * _COPIES_OF_ACTIVATIONS * rows * columns
    _check(estimator, need, "a fit")


def count_weights(estimator: KalmanSSL) -> float:
    """Return about how many weights the model of an estimator has, whose `n_features_in_` must be set."""
    return sum(_weights(estimator).values())


def _weights(estimator: KalmanSSL) -> dict[str, float]:
    """Return the number of weights, by the parameter that determines them."""
    state, latent = float(estimator.state_dim), float(estimator.latent_dim)
    weights = {"state_dim": state**2 + state * latent, "hidden": 0.0, "encoder_window": 0.0, "latent_dim": latent}
    if estimator.encoder is None:  # weights of a custom encoder exist already
        inputs = float(estimator.n_features_in_) * estimator.encoder_window
        widths = [inputs, *(float(width) for width in estimator.hidden), latent]
        layers = [a * b for a, b in pairwise(widths)]
        first = "hidden" if inputs == estimator.n_features_in_ else "encoder_window"
        weights[first] += layers[0] if len(layers) > 1 else 0.0
        weights["hidden"] += sum(layers[1:])
        weights["latent_dim"] += inputs * latent
    return weights


def _check(estimator: KalmanSSL, need: dict[str, float], what: str) -> None:
    largest = max(need, key=lambda name: need[name])
    value = getattr(estimator, largest)
    check_memory(sum(need.values()), f"{largest}={value!r:.60}: {what}", f"use a smaller {largest}", largest)

"""Training gives the same model with every implementation of the filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kalmanssl import KalmanSSL
from kalmanssl.kalman.backends import BACKENDS


def fit(noise: str) -> KalmanSSL:
    """Fit to counts of 20 units that follow a rotating phase."""
    rng = np.random.default_rng(0)
    phase = np.cumsum(0.2 + 0.02 * rng.normal(size=1200))
    rates = np.exp(1.5 * np.cos(phase[:, None] - np.linspace(0, 2 * np.pi, 20)))
    counts = rng.poisson(rates).astype(np.float32)
    return KalmanSSL(
        latent_dim=3,
        state_dim=5,
        noise=noise,
        hidden=(16,),
        bins_per_step=1,
        window=20,
        batch_size=16,
        epochs=4,
        steps_per_epoch=25,
        random_state=0,
        progress=False,
    ).fit(counts)


@pytest.fixture(scope="module", params=["constant", "input"])
def with_kernels(request):
    return fit(request.param)


@pytest.mark.parametrize("backend", ["adjoint", "reference"])
def test_a_hundred_training_steps_give_the_same_weights_with_and_without_kernels(with_kernels, backend, monkeypatch):
    monkeypatch.setitem(BACKENDS, "auto", BACKENDS[backend])
    without = fit(with_kernels.noise)
    assert len(with_kernels.history_["loss"]) == len(without.history_["loss"])
    for (name, one), other in zip(
        with_kernels.model_.state_dict().items(), without.model_.state_dict().values(), strict=True
    ):
        # Kernels compute in float64 where it costs nothing. Adam amplifies the rounding of float32 in the weights whose
        # gradients are close to zero.
        one, other = one.double().flatten(), other.double().flatten()
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2, msg=lambda m, name=name: f"{name}: {m}")
        far = (one - other).abs() > 1e-3 * (1 + other.abs())
        assert far.sum() <= 0.01 * len(far), name

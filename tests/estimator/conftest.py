"""A small recording and a model that is fitted to it."""

import numpy as np
import pytest
from small_fits import TINY

from kalmanssl import KalmanSSL, Recording


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Counts of six units that follow a rotating phase, in two segments of 400 and 200 bins."""
    rng = np.random.default_rng(0)
    phase = np.cumsum(0.2 + 0.05 * rng.standard_normal(600))
    rate = np.exp(1.5 * np.cos(phase[:, None] - np.arange(6)))
    time = 100 + 0.025 * np.arange(600)
    time[400:] += 5.0
    return Recording.from_arrays(rng.poisson(rate), time=time, unit_ids=[f"u{i}" for i in range(6)])


@pytest.fixture(scope="module")
def fitted(recording) -> KalmanSSL:
    return KalmanSSL(**{**TINY, "epochs": 4}).fit(recording)

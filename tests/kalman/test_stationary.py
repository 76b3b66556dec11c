"""The filter that reuses settled covariances equals the one that computes all of them."""

import time

import pytest
import torch

from kalmanssl.kalman import StationaryFilter, kalman_filter, kalman_smoother


def model(state: int = 4, obs: int = 2, radius: float = 0.95, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    A = random(state, state)
    return {
        "A": radius * A / torch.linalg.eigvals(A).abs().max(),
        "b": random(state),
        "Q": 0.1 + random(state).square(),
        "C": random(obs, state),
        "R": 0.1 + random(obs).square(),
        "m0": random(state),
        "P0": 5 * torch.eye(state, dtype=torch.float64),
    }


@pytest.mark.parametrize("steps", [1, 2, 5, 40, 1500])
@pytest.mark.parametrize("radius", [0.5, 0.99, 1.02])
def test_it_equals_the_general_filter_and_smoother(steps, radius):
    parameters = model(radius=radius)
    y = torch.randn(3, steps, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    settled = StationaryFilter(**parameters)
    filtered, expected = settled.filter(y), kalman_filter(y, **parameters)
    torch.testing.assert_close(filtered.mean, expected.filtered_mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(filtered.covs[filtered.cov_index], expected.filtered_cov[0], rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(filtered.log_likelihood, expected.log_likelihood, rtol=1e-8, atol=1e-8)
    smoothed, wanted = settled.smooth(y), kalman_smoother(y, **parameters)
    torch.testing.assert_close(smoothed.mean, wanted.smoothed_mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(smoothed.covs[smoothed.cov_index], wanted.smoothed_cov[0], rtol=1e-7, atol=1e-9)


def test_few_covariances_serve_a_long_sequence():
    settled = StationaryFilter(**model())
    y = torch.zeros(1, 5000, 2, dtype=torch.float64)
    assert len(settled.filter(y).covs) < 500
    assert len(settled.smooth(y).covs) < 1000
    begin = time.perf_counter()
    settled.filter(y)
    assert time.perf_counter() - begin < 2.0


def test_short_sequence_after_long_and_long_after_short_are_the_same():
    y = torch.randn(1, 300, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one = StationaryFilter(**model())
    short, long = one.filter(y[:, :3]), one.filter(y)
    torch.testing.assert_close(short.mean, long.mean[:, :3])
    torch.testing.assert_close(StationaryFilter(**model()).filter(y).mean, long.mean)
    assert len(one.filter(y[:, :3]).covs) == 3


def test_bad_input():
    with pytest.raises(ValueError, match="Q"):
        StationaryFilter(**{**model(), "Q": -torch.ones(4, dtype=torch.float64)})
    with pytest.raises(ValueError, match="nan"):
        StationaryFilter(**model()).filter(torch.full((1, 3, 2), float("nan"), dtype=torch.float64))

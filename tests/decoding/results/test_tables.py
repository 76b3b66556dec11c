"""Decoded behavior as tables of pandas, time series of pynapple and data sets of xarray."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.decoding import PositionDecoder


@pytest.fixture(scope="module")
def latents():
    """Latents and times with a gap."""
    time = 0.1 * np.arange(300)
    time[200:] += 5
    return np.random.default_rng(0).normal(size=(300, 4)), time


def decode(latents, position, **settings):
    mean, time = latents
    return (
        PositionDecoder(regressor="linear", random_state=0, **settings).fit(mean, position, time=time).predict(*latents)
    )


def test_one_dimension(latents):
    decoded = decode(latents, latents[0][:, 0])
    table = decoded.to_dataframe()
    bounds = [f"{end}_{level}" for level in (50, 80, 95) for end in ("lower", "upper")]
    assert list(table) == ["mean", "lower", "upper", *bounds, "trust", "trusted"]
    assert table.index.name == "time"
    np.testing.assert_array_equal(table.index, latents[1])
    data = decoded.to_xarray(unit="cm")
    for name in ("mean", "lower", "upper"):
        np.testing.assert_array_equal(table[name], getattr(decoded, name))
        np.testing.assert_array_equal(data[name], getattr(decoded, name))
    for name, level in (("50", 0.5), ("80", 0.8), ("95", 0.95)):
        np.testing.assert_array_equal(table[f"lower_{name}"], decoded.interval(level)[0])
        np.testing.assert_array_equal(data[f"upper_{name}"], decoded.interval(level)[1])
    for name in ("trust", "trusted"):
        np.testing.assert_array_equal(table[name], getattr(decoded, name))
        np.testing.assert_array_equal(data[name], getattr(decoded, name))
    assert table["trusted"].dtype == bool
    assert (data["mean"].dims, data["mean"].attrs["units"]) == (("time",), "cm")
    assert data["posterior"].dims == ("time", "position")
    assert data["position"].attrs["units"] == "cm"
    assert data["time"].attrs["units"] == "s"
    assert data.attrs["level"] == 0.95
    np.testing.assert_allclose(data["posterior"].sum("position"), 1, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 4])
def test_several_dimensions(latents, dims):
    decoded = decode(latents, latents[0][:, :dims])
    table, data = decoded.to_dataframe(), decoded.to_xarray()
    assert list(table)[:4] == ["mean_x", "lower_x", "upper_x", "mean_y"]
    np.testing.assert_array_equal(table["upper_y"], decoded.upper[:, 1])
    np.testing.assert_array_equal(table["upper_80_y"], decoded.interval(0.8)[1][:, 1])
    assert list(table)[-4:-2] == [f"{end}_95_{'y' if dims == 2 else '4'}" for end in ("lower", "upper")]
    assert data["lower_50"].dims == ("time", "dim")
    assert data["mean"].dims == ("time", "dim")
    assert data["dim"].values.tolist() == ["x", "y", "z", "4"][:dims]
    assert data["posterior"].dims == ("time", "x", "y")
    if dims == 4:
        assert data["posterior_2"].dims == ("time", "x_2", "y_2")
        np.testing.assert_array_equal(data["posterior_2"].values, decoded.posterior[1].values)


def test_labels(latents):
    side = np.where(latents[0][:, 0] > 0, "right", "left")
    mean, time = latents
    decoded = PositionDecoder(random_state=0).set_params(regressor="mlp").fit(mean, side, time=time).predict(mean, time)
    table, data = decoded.to_dataframe(), decoded.to_xarray()
    assert list(table) == ["label", "set", "probability_left", "probability_right"]
    np.testing.assert_array_equal(table["label"], decoded.most_probable)
    np.testing.assert_array_equal(data["probability"].sel(label="left"), table["probability_left"])
    np.testing.assert_array_equal(data["in_set"].values, decoded.region().inside.values)
    pytest.importorskip("pynapple")
    assert list(decoded.to_pynapple().columns) == ["probability_left", "probability_right"]


def test_time_series_have_the_segments_as_time_support(latents):
    pytest.importorskip("pynapple")
    decoded = decode(latents, latents[0][:, :2])
    frame = decoded.to_pynapple()
    assert list(frame.columns) == list(decoded.to_dataframe())
    np.testing.assert_allclose(frame.t, latents[1], atol=1e-9)
    np.testing.assert_allclose(frame.values, decoded.to_dataframe().to_numpy(dtype=float))
    np.testing.assert_allclose(frame.time_support.values, [[-0.05, 19.95], [24.95, 34.95]], atol=1e-6)

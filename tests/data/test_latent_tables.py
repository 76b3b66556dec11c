"""Latents as tables of pandas, time series of pynapple and data sets of xarray, and `set_output` of KalmanSSL."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from small_fits import ONE_EPOCH as TINY

from kalmanssl import InputError, KalmanSSL, Recording, cross_fit, select
from kalmanssl.data import Latents

STATES = ["state_0", "state_1", "state_2"]


@pytest.fixture(scope="module")
def recording() -> Recording:
    rng = np.random.default_rng(0)
    time = 5 + 0.1 * np.arange(200)
    time[120:] += 3.0
    return Recording.from_arrays(rng.poisson(2.0, (200, 4)), time=time, behavior=rng.normal(size=200))


@pytest.fixture(scope="module")
def model(recording) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(recording)


@pytest.fixture(scope="module")
def latents(model, recording) -> Latents:
    return model.transform(recording)


def test_a_data_set_has_all_latents_with_names_and_units(latents):
    data = latents.to_xarray(cov=True)
    assert data["mean"].dims == ("time", "state")
    assert data["state"].values.tolist() == STATES
    assert data["time"].attrs["units"] == "s"
    assert data["log_likelihood"].attrs["units"] == "nats per bin"
    assert data.attrs["posterior"] == "filtered"
    for name in ("mean", "cov", "latent", "noise", "log_likelihood", "segment"):
        np.testing.assert_array_equal(data[name].values, getattr(latents, name))
    np.testing.assert_allclose(data["sd"].values ** 2, np.diagonal(latents.cov, axis1=1, axis2=2), rtol=1e-5)
    assert "cov" not in latents.to_xarray()
    later = data.sel(time=slice(20, None))
    np.testing.assert_array_equal(later["mean"].values, latents.mean[latents.time >= 20])


def test_a_table_has_the_posterior_mean_by_time(latents):
    table = latents.to_dataframe()
    assert list(table) == STATES
    assert table.index.name == "time"
    np.testing.assert_array_equal(table.index, latents.time)
    np.testing.assert_array_equal(table.to_numpy(), latents.mean)


def test_a_time_series_has_the_segments_as_time_support(latents):
    pytest.importorskip("pynapple")
    frame = latents.to_pynapple()
    np.testing.assert_array_equal(frame.values, latents.mean)
    np.testing.assert_allclose(frame.t, latents.time, atol=1e-9)
    assert list(frame.columns) == STATES
    ends = [[latents.time[0] - 0.05, latents.time[119] + 0.05], [latents.time[120] - 0.05, latents.time[-1] + 0.05]]
    np.testing.assert_allclose(frame.time_support.values, ends, atol=1e-6)
    again = Recording.from_pynapple(frame)
    np.testing.assert_allclose(again.time, latents.time, atol=1e-9)
    assert [s.stop - s.start for s in again.segments()] == [s.stop - s.start for s in latents.segments()] == [120, 80]


def test_pieces_of_latents_can_be_joined(latents):
    joined = Latents.concatenate([latents[:120], latents[120:150], latents[150:]])
    for name in ("mean", "cov", "time", "noise"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(latents, name))
    assert [s.stop for s in joined.segments()] == [120, 150, 200]


def test_a_missing_pynapple_gives_an_error_that_says_how_to_install_it(latents, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynapple", None)
    with pytest.raises(InputError, match=r"to_pynapple needs pynapple: pip install 'kalmanssl\[interop\]'"):
        latents.to_pynapple()
    assert len(latents.to_dataframe()) == 200


# set_output


def test_set_output_gives_tables_with_the_time_as_index(recording, latents):
    model = KalmanSSL(**TINY).set_output(transform="pandas").fit(recording)
    table = model.transform(recording)
    pd.testing.assert_frame_equal(table, latents.to_dataframe(), check_index_type=False)
    pd.testing.assert_frame_equal(KalmanSSL(**TINY).set_output(transform="pandas").fit_transform(recording), table)
    assert list(model.get_feature_names_out()) == STATES
    assert isinstance(model.posterior(recording), Latents)
    assert isinstance(model.set_output(transform="default").transform(recording), Latents)


def test_tables_in_give_tables_out_with_the_same_index(recording):
    counts = pd.DataFrame(recording.activity, index=[f"bin {i}" for i in range(200)], columns=list("abcd"))
    table = KalmanSSL(**TINY).set_output(transform="pandas").fit(counts).transform(counts)
    assert table.index.tolist() == counts.index.tolist()
    assert list(table) == STATES


def test_trials_become_one_table(recording, model):
    trials = [recording[:50], recording[130:160]]
    with sklearn.config_context(transform_output="pandas"):
        table = model.transform(trials)
    assert table.index.names == ["trial", "time"]
    np.testing.assert_array_equal(table.loc[1].to_numpy(), model.transform(trials)[1].mean)


def test_functions_that_need_latents_work_after_set_output(recording, model):
    tables = KalmanSSL(**TINY).set_output(transform="pandas").fit(recording)
    assert tables.score(recording) == model.score(recording)
    (fit,) = cross_fit(tables, recording, shares=(0.6,))
    assert isinstance(fit.latents, Latents)
    selection = select(recording, {"latent_dim": [1]}, estimator=tables, n_folds=2, purge=0.5, progress=False)
    assert np.isfinite(selection.scores).all()
    pipeline = make_pipeline(KalmanSSL(**TINY), Ridge()).set_output(transform="pandas")
    pipeline.fit(recording, recording.behavior["position"])
    assert list(pipeline[-1].feature_names_in_) == STATES

"""KalmanSSL and PositionDecoder with the tools of scikit-learn: its checks, pipelines, cross-validation and joblib."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from small_fits import TINY

from kalmanssl import BlockedTimeSeriesSplit, InputError, KalmanSSL, PositionDecoder, Recording
from kalmanssl.decoding import EnsembleReadoutSettings, MLPReadoutSettings, score_decoding

# All checks of scikit-learn that are not passed, and why.
EXPECTED_FAILED_CHECKS = {
    "KalmanSSL": {
        "check_methods_subset_invariance": "the posterior of a bin depends on the bins before it",
        "check_methods_sample_order_invariance": "the order of the samples is time",
    },
    "PositionDecoder": {
        "check_fit_score_takes_y": "the second argument is called position, as everywhere in kalmanssl",
        "check_n_features_in_after_fitting": "the message has the name of the argument, latents, instead of X",
        "check_dtype_object": "values that are not numbers raise InputError, a ValueError, instead of TypeError",
    },
}


SMALL_NETWORKS = MLPReadoutSettings(n_networks=1, hidden=8, n_steps=10, min_steps=1)


@parametrize_with_checks(
    [
        KalmanSSL(**TINY),
        PositionDecoder(regressor="linear", random_state=0),
        PositionDecoder(readout_settings=EnsembleReadoutSettings(SMALL_NETWORKS), random_state=0),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILED_CHECKS[type(estimator).__name__],
)
@pytest.mark.filterwarnings("ignore:.*blocks")
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Counts of ten units with place fields, in two segments of 500 and 300 bins, and the position."""
    rng = np.random.default_rng(0)
    position = np.sin(2 * np.pi * np.arange(800) / 130 + 0.3 * np.cumsum(rng.normal(size=800)) / 10)
    rate = 3 * np.exp(-(((position[:, None] - np.linspace(-1, 1, 10)) / 0.3) ** 2))
    time = 10 + 0.025 * np.arange(800)
    time[500:] += 4.0
    return Recording.from_arrays(rng.poisson(rate), time=time, behavior=position)


@pytest.fixture
def pipeline():
    return make_pipeline(KalmanSSL(**TINY), PositionDecoder(regressor="linear", random_state=0))


@pytest.mark.parametrize("kind", ["recording", "array"])
def test_a_pipeline_gives_the_same_result_as_its_steps(recording, pipeline, kind):
    X = recording if kind == "recording" else recording.activity
    position = recording.behavior["position"]
    decoded = pipeline.fit(X, position).predict(X)
    model = KalmanSSL(**TINY).fit(X)
    decoder = PositionDecoder(regressor="linear", random_state=0).fit(model.transform(X), position)
    np.testing.assert_array_equal(decoded.mean, decoder.predict(model.transform(X)).mean)
    score = pipeline.score(X, position)
    assert score == pytest.approx(-score_decoding(decoded, position)["crps"])
    np.testing.assert_array_equal(np.asarray(decoded), decoded.mean)


def test_cross_validation_fits_on_recordings_with_gaps_where_blocks_are_held_out(recording, pipeline):
    """The scores are those of models that are fitted on the bins of a fold with their times."""
    position = recording.behavior["position"]
    splitter = BlockedTimeSeriesSplit(3, purge=10)
    scores = cross_val_score(pipeline, recording, position, cv=splitter)
    n_segments = [len(recording[train].segments()) for train, _ in splitter.split(recording)]
    assert n_segments == [2, 2, 1]
    for (train, test), score in zip(splitter.split(recording), scores, strict=True):
        fitted = clone(pipeline).fit(recording[train], position[train])
        assert fitted.score(recording[test], position[test]) == pytest.approx(score)


def test_latents_can_be_cross_validated(recording):
    latents = KalmanSSL(**TINY).fit(recording).transform(recording)
    decoder = PositionDecoder(regressor="linear", random_state=0)
    position = recording.behavior["position"]
    scores = cross_val_score(decoder, latents, position, cv=BlockedTimeSeriesSplit(3, purge=10))
    assert np.isfinite(scores).all()
    assert cross_val_score(Ridge(), latents, position, cv=BlockedTimeSeriesSplit(3, purge=10)).max() > 0.2


def test_metrics_of_scikit_learn_score_the_point_estimate(recording):
    latents = KalmanSSL(**TINY).fit(recording).transform(recording)
    decoder = PositionDecoder(regressor="linear", calibrate=False, random_state=0)
    position, splitter = recording.behavior["position"], BlockedTimeSeriesSplit(2, purge=10)
    scores = cross_validate(decoder, latents, position, cv=splitter, scoring=["r2", "neg_mean_absolute_error"])
    predicted = cross_val_predict(decoder, latents, position, cv=splitter)
    assert predicted.shape == position.shape
    for number, (_, test) in enumerate(splitter.split(latents)):
        error = np.abs(predicted - position)[test].mean()
        assert -scores["test_neg_mean_absolute_error"][number] == pytest.approx(error)
        assert scores["test_r2"][number] == pytest.approx(r2_score(position[test], predicted[test]))


def test_labels_are_scored_by_their_log_probability_and_by_accuracy(recording):
    latents = KalmanSSL(**TINY).fit(recording).transform(recording)
    side = np.where(recording.behavior["position"] > 0, "right", "left")
    decoder = PositionDecoder(random_state=0).set_params(regressor="mlp").fit(latents, side)
    decoded = decoder.predict(latents)
    assert decoder.score(latents, side) == pytest.approx(-score_decoding(decoded, side)["log_loss"])
    np.testing.assert_array_equal(np.asarray(decoded), decoded.most_probable)


def test_a_grid_search_chooses_settings_of_both_steps(recording, pipeline):
    grid = {"kalmanssl__latent_dim": [1, 2], "positiondecoder__level": [0.8]}
    search = GridSearchCV(pipeline, grid, cv=BlockedTimeSeriesSplit(2, purge=10), error_score="raise")
    search.fit(recording, recording.behavior["position"])
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    assert search.best_estimator_[-1].level == 0.8
    assert len(search.predict(recording)) == len(recording)


def test_a_grid_search_maximizes_the_objective_of_the_model_alone(recording):
    search = GridSearchCV(KalmanSSL(**TINY), {"epochs": [1, 2]}, cv=BlockedTimeSeriesSplit(2), error_score="raise")
    assert search.fit(recording).best_params_["epochs"] in (1, 2)


def test_a_clone_has_the_same_parameters_and_is_not_fitted(recording, pipeline):
    fitted = pipeline.fit(recording, recording.behavior["position"])
    copy = clone(fitted)
    assert not hasattr(copy[0], "model_")
    assert not hasattr(copy[1], "decoders_")
    assert copy[0].get_params() == fitted[0].get_params()
    assert copy[1].get_params() == fitted[1].get_params()


def test_joblib_writes_and_reads_a_fitted_pipeline(recording, pipeline, tmp_path):
    fitted = pipeline.fit(recording, recording.behavior["position"])
    joblib.dump(fitted, tmp_path / "pipeline.joblib")
    loaded = joblib.load(tmp_path / "pipeline.joblib")
    np.testing.assert_array_equal(loaded.predict(recording).upper, fitted.predict(recording).upper)


@pytest.mark.slow
def test_parallel_cross_validation_gives_the_same_scores(recording, pipeline):
    position = recording.behavior["position"]
    settings = {"cv": BlockedTimeSeriesSplit(2, purge=10)}
    one = cross_val_score(pipeline, recording, position, **settings)
    np.testing.assert_allclose(cross_val_score(pipeline, recording, position, **settings, n_jobs=2), one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: np.where(np.arange(4) == 2, np.nan, x),
            "Input X contains NaN. Features 2 are NaN in all bins: leave them",
        ),
        (lambda x: np.where(x == x[5, 1], np.nan, x), "Input X contains NaN. Leave these bins out"),
        (lambda x: x[:, 0], "Reshape your data"),
        (lambda x: x[:1], "minimum of 2 is required"),
    ],
)
def test_arrays_that_cannot_be_used_raise_an_error_of_one_line(change, message):
    values = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.raises(InputError, match=message) as caught:
        KalmanSSL(**TINY).fit(change(values))
    assert "\n" not in str(caught.value)
    assert caught.value.parameter == "X"

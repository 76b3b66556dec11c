"""Decoding of labels: probabilities, the Markov chain, prediction sets, scores, wrong input and saving."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from kalmanssl.decoding import (
    DecodedCategory,
    DecodedPosition,
    EnsembleReadoutSettings,
    MLPReadoutSettings,
    MovementSettings,
    PositionDecoder,
    score_decoding,
)
from kalmanssl.decoding.calibration import RegionCalibration
from kalmanssl.decoding.labels._chain import LabelChain, LabelStatistics, brier_score
from kalmanssl.errors import InputError

QUICK = EnsembleReadoutSettings(
    MLPReadoutSettings(n_steps=120)
)  # for behavior that does not depend on how well the networks are trained
ARMS = np.array(["center", "left", "right"])
BIN = 0.05
ALONE = MovementSettings(kinds=("none",))


def simulate(rng, bins, stay=0.0, labels=ARMS, separation=1.0):
    """Labels that stay the same with probability `stay`, else are drawn anew, and latents that depend on them."""
    codes = rng.integers(len(labels), size=bins)
    for bin_ in range(1, bins):
        if rng.random() < stay:
            codes[bin_] = codes[bin_ - 1]
    center = separation * np.eye(len(labels), 4)
    return center[codes] + rng.normal(size=(bins, 4)) * 0.7, labels[codes]


def posterior_of_bin(latents, n_labels, separation=1.0):
    """Exact probability of each label given the latents of the bin alone, with equally frequent labels."""
    distance = ((latents[:, None] - separation * np.eye(n_labels, 4)) ** 2).sum(axis=2)
    mass = np.exp(-distance / (2 * 0.7**2))
    return mass / mass.sum(axis=1, keepdims=True)


def quick_decoder(**settings):
    return PositionDecoder(**{"readout_settings": QUICK, "random_state": 0} | settings)


def calibration_error(decoded, truth, edges):
    """Largest difference between probability and frequency of a label in bins of probability, in standard errors."""
    probability = decoded.mass.ravel()
    is_true = (truth[:, None] == decoded.labels).ravel()
    worst = 0.0
    for low, high in pairwise(edges):
        chosen = (probability >= low) & (probability < high)
        if chosen.sum() >= 100:
            expected = probability[chosen].mean()
            standard_error = np.sqrt(expected * (1 - expected) / chosen.sum())
            worst = max(worst, abs(is_true[chosen].mean() - expected) / (standard_error + 0.015))
    return worst


@pytest.fixture(scope="module")
def independent():
    rng = np.random.default_rng(0)
    latents, labels = simulate(rng, 7000)
    time = BIN * np.arange(7000)
    decoder = PositionDecoder(random_state=0).fit(latents[:3000], labels[:3000], time=time[:3000])
    return decoder, decoder.predict(latents[3000:], time[3000:]), latents[3000:], labels[3000:]


@pytest.fixture(scope="module")
def persistent():
    rng = np.random.default_rng(1)
    latents, labels = simulate(rng, 9000, stay=0.98)
    time = BIN * np.arange(9000)
    train, test = slice(0, 5000), slice(5000, None)
    decoders = [
        PositionDecoder(movement_settings=movement, time_scales=(), random_state=0).fit(
            latents[train], labels[train], time=time[train]
        )
        for movement in (None, ALONE)
    ]
    return decoders, [decoder.predict(latents[test], time[test]) for decoder in decoders], labels[test]


def test_probabilities_of_independent_labels_are_calibrated_and_nearly_optimal(independent):
    _, decoded, latents, truth = independent
    np.testing.assert_allclose(decoded.mass.sum(axis=1), 1, atol=1e-5)
    # Within 3 standard errors of the scored bins, where 0.015 is allowed for the error of the fit.
    assert calibration_error(decoded, truth, np.linspace(0, 1.001, 11)) < 3
    codes = np.searchsorted(ARMS, truth)
    found = brier_score(decoded.mass, codes).mean()
    best = brier_score(posterior_of_bin(latents, 3), codes).mean()
    assert best <= found < 1.05 * best


def test_independent_labels_are_decoded_without_a_chain(independent):
    assert independent[0].decoders_["array"].kind == "none"


def test_prediction_sets_of_independent_labels_cover_at_their_level(independent):
    _, decoded, _, truth = independent
    scores = score_decoding(decoded, truth)
    # At 50 % a set has at least one label, which is right more often.
    assert scores["coverage"]["50"] == scores["accuracy"] > 0.5
    assert abs(scores["coverage"]["80"] - 0.8) < 0.03
    assert abs(scores["coverage"]["95"] - 0.95) < 0.02
    assert 1 == scores["set_size"]["50"] < scores["set_size"]["80"] < scores["set_size"]["95"] < 3


def test_chain_improves_persistent_labels_and_its_probabilities_are_calibrated(persistent):
    decoders, decoded, truth = persistent
    assert [decoder.decoders_["array"].kind for decoder in decoders] == ["chain", "none"]
    chain, alone = (score_decoding(part, truth) for part in decoded)
    assert chain["accuracy"] > alone["accuracy"] + 0.1
    assert chain["brier_score"] < 0.5 * alone["brier_score"]
    assert calibration_error(decoded[0], truth, np.linspace(0, 1.001, 6)) < 3
    for level in ("80", "95"):
        assert chain["coverage"][level] > float(level) / 100 - 0.03
        assert chain["set_size"][level] < alone["set_size"][level]


def test_probability_of_switching_is_learned_from_the_labels(persistent):
    # 100 draws in 5000 bins: a standard error of 0.0025.
    assert abs(persistent[0][0].decoders_["array"].chain.statistics.reset - 0.02) < 0.0075
    codes = np.array([0, 0, 1, 1, 1, 0])
    follows = np.array([False, True, True, True, False, True])  # one gap
    statistics = LabelStatistics.from_codes(codes, follows, 3)
    occupancy = np.array([3.5, 3.5, 0.5]) / 7.5
    np.testing.assert_allclose(statistics.occupancy, occupancy)
    assert statistics.reset == pytest.approx((2 + 0.5) / (4 + 1) / (1 - (occupancy**2).sum()))


def test_later_bins_do_not_change_filtered_probabilities(persistent):
    decoder = persistent[0][0]
    rng = np.random.default_rng(5)
    latents, _ = simulate(rng, 60, stay=0.98)
    time = BIN * np.arange(60)
    whole = decoder.predict(latents, time).mass
    np.testing.assert_allclose(decoder.predict(latents[:40], time[:40]).mass, whole[:40], rtol=1e-5)


def test_bins_without_latents_are_predicted_by_the_chain(persistent):
    decoder = persistent[0][0]
    rng = np.random.default_rng(6)
    latents, _ = simulate(rng, 200, stay=1.0)
    latents[100:] = np.nan
    mass = decoder.predict(latents, BIN * np.arange(200)).mass
    assert mass[99].max() > 0.9
    assert 0.5 < mass[101].max() < mass[99].max()
    np.testing.assert_allclose(mass[-1], decoder.decoders_["array"].chain.statistics.occupancy, atol=0.05)


def test_labels_that_are_constant_within_trials_are_decoded_from_the_whole_trial():
    rng = np.random.default_rng(2)
    n_trials, length = 150, 20
    choice = rng.integers(2, size=n_trials)
    codes = np.repeat(choice, length)
    latents = 0.6 * codes[:, None] + rng.normal(size=(len(codes), 3))
    time = (np.arange(n_trials)[:, None] * 5.0 + BIN * np.arange(length)).ravel()
    labels = np.array(["left", "right"])[codes]
    train, test = time < 500, time >= 500
    decoder = quick_decoder().fit(latents[train], labels[train], time=time[train])
    part = decoder.decoders_["array"]
    assert part.kind == "chain"
    assert part.chain.statistics.reset < 1e-3
    decoded = decoder.predict(latents[test], time[test])
    right = (decoded.most_probable == labels[test]).reshape(-1, length)
    assert right[:, -1].mean() > 0.85
    assert right[:, -1].mean() > right[:, 0].mean() + 0.05
    assert score_decoding(decoded, labels[test])["accuracy_error"] > 0.01  # over trials, not over bins


@pytest.mark.parametrize(
    "labels",
    [
        np.array([True, False]),
        np.array(["a", "b"], dtype=object),
    ],
)
def test_labels_of_any_one_type_come_back_unchanged(labels):
    rng = np.random.default_rng(3)
    latents, truth = simulate(rng, 400, labels=labels)
    decoded = quick_decoder(calibrate=False).fit(latents, truth).predict(latents)
    assert set(decoded.most_probable.tolist()) == set(labels.tolist())
    assert (decoded.most_probable == truth).mean() > 0.7


def test_integers_are_labels_only_if_discrete_is_true():
    rng = np.random.default_rng(3)
    latents, truth = simulate(rng, 400, labels=np.array([1, 2, 5]))
    assert isinstance(quick_decoder(calibrate=False).fit(latents, truth).predict(latents), DecodedPosition)
    decoded = quick_decoder(calibrate=False, discrete=True).fit(latents, truth).predict(latents)
    assert isinstance(decoded, DecodedCategory)
    assert decoded.labels.tolist() == [1, 2, 5]


def test_categories_of_pandas_keep_their_order_and_missing_ones_are_left_out():
    rng = np.random.default_rng(4)
    latents, truth = simulate(rng, 400)
    column = pd.Series(pd.Categorical(truth, categories=["right", "never", "left", "center"]))
    decoder = quick_decoder(calibrate=False).fit(latents, column)
    assert decoder.labels_.tolist() == ["right", "left", "center"]
    numbers = pd.Categorical(np.searchsorted(ARMS, truth))
    assert quick_decoder(calibrate=False).fit(latents, numbers).labels_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("missing", [None, float("nan"), "", pd.NA])
def test_bins_with_missing_labels_have_no_influence(missing):
    rng = np.random.default_rng(5)
    latents, truth = simulate(rng, 500)
    given = truth.astype(object)
    given[::7] = missing
    changed = latents.copy()
    changed[::7] = 100.0
    keep = np.arange(500) % 7 != 0
    settings = {"regressor": LogisticRegression(), "readout_settings": None, "calibrate": False}
    expected = quick_decoder(**settings).fit(latents[keep], truth[keep]).predict(latents)
    found = quick_decoder(**settings).fit(changed, given).predict(latents)
    np.testing.assert_allclose(found.mass, expected.mass, rtol=1e-6)
    assert score_decoding(found, given)["bins"] == keep.sum()


def test_labels_outside_the_bins_to_fit_on_are_left_out():
    rng = np.random.default_rng(5)
    latents, truth = simulate(rng, 600)
    decoder = quick_decoder(calibrate=False).fit(latents, truth, where=truth != "left")
    assert decoder.labels_.tolist() == ["center", "right"]


def test_classifier_of_scikit_learn_is_accepted():
    rng = np.random.default_rng(6)
    latents, truth = simulate(rng, 2000)
    decoder = PositionDecoder(regressor=LogisticRegression()).fit(latents[:1000], truth[:1000])
    assert score_decoding(decoder.predict(latents[1000:]), truth[1000:])["accuracy"] > 0.65
    with pytest.raises(InputError, match="cannot be saved without pickle"):
        decoder.to_state()


def test_saved_decoder_decodes_the_same():
    rng = np.random.default_rng(7)
    latents, truth = simulate(rng, 1000, stay=0.9)
    time = BIN * np.arange(1000)
    decoder = quick_decoder().fit(latents, truth, time=time)
    again = PositionDecoder.from_state(decoder.to_state())
    before, after = (part.predict(latents, time) for part in (decoder, again))
    np.testing.assert_array_equal(after.mass, before.mass)
    np.testing.assert_array_equal(after.region(0.9).inside, before.region(0.9).inside)
    assert after.labels.tolist() == before.labels.tolist()


def small_decoded():
    mass = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.05, 0.9, 0.05], [0.5, 0.25, 0.25]])
    return DecodedCategory(10.0 + np.arange(4), ARMS, mass, 0.8, RegionCalibration.identity())


def test_probabilities_and_most_probable_labels_are_labeled():
    decoded = small_decoded()
    assert decoded.probabilities.dims == ("time", "label")
    assert decoded.probabilities.sel(time=12.0, label="left") == 0.9
    assert decoded.most_probable.tolist() == ["center", "right", "left", "center"]
    assert decoded[1:3].most_probable.tolist() == ["right", "left"]
    assert len(decoded[decoded.time > 11]) == 2


def test_prediction_sets_contain_the_most_probable_labels_up_to_the_level():
    found = small_decoded().region(0.85)
    assert found.size.tolist() == [2, 3, 1, 3]
    assert found.inside.sel(time=10.0).values.tolist() == [True, True, False]
    assert small_decoded().region(0.01).size.tolist() == [1, 1, 1, 1]
    assert small_decoded().region().size.tolist() == [2, 3, 1, 3]  # at the level of the decoder, 0.8


def test_samples_have_the_frequencies_of_the_probabilities():
    decoded = small_decoded()
    draws = decoded.sample(20000, random_state=0)
    assert draws.shape == (20000, 4)
    frequency = (draws[:, :, None] == ARMS).mean(axis=0)
    np.testing.assert_allclose(frequency, decoded.mass, atol=0.015)  # 4 standard errors


def test_scores_agree_with_their_definitions():
    truth = np.array(["center", "left", "left", "right"])
    scores = score_decoding(small_decoded(), truth)
    assert scores["bins"] == 4
    assert scores["accuracy"] == 0.5
    assert scores["balanced_accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert scores["chance_level"] == 0.5
    assert scores["log_loss"] == pytest.approx(-np.log([0.7, 0.3, 0.9, 0.25]).mean())
    own = np.array([0.09 + 0.04 + 0.01, 0.09 + 0.49 + 0.16, 0.0025 + 0.01 + 0.0025, 0.25 + 0.0625 + 0.5625])
    assert scores["brier_score"] == pytest.approx(own.mean())
    assert scores["confusion"] == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
    assert scores["coverage"]["95"] == 1.0
    masked = score_decoding(small_decoded(), truth, mask=np.array([True, True, False, False]))
    assert masked["bins"] == 2


def test_chain_leaves_the_occupancy_unchanged():
    chain = LabelChain(LabelStatistics(np.array([0.5, 0.3, 0.2]), 0.04), 2.0, 0.4, 0.01)
    step = chain.transition()
    np.testing.assert_allclose(step.along_rows[0].sum(axis=1), 1)
    np.testing.assert_allclose(step.prior[0, :, 0] @ step.along_rows[0], step.prior[0, :, 0])
    np.testing.assert_allclose(step.along_rows[0][0, 1], 0.08 * 0.3)


def test_chain_of_an_earlier_version_is_read() -> None:
    chain = LabelChain(LabelStatistics(np.array([0.5, 0.5]), 0.04), 2.0, 0.4, 0.01)
    state = chain.to_state()
    state["width_factor"] = state.pop("reset_factor")
    assert LabelChain.from_state(state).reset_factor == 2.0


@pytest.mark.parametrize(
    ("change", "settings", "parameter", "message"),
    [
        (lambda y: np.full(len(y), "left"), {}, "position", "the label 'left' only"),
        (lambda y: np.full(len(y), None), {"discrete": True}, "position", "no known label"),
        (lambda y: np.where(np.arange(len(y)) < 5, 1, y.astype(object)), {}, "position", "number and text"),
        (lambda y: y.astype(bytes), {}, "position", "of the type bytes: convert them to text"),
        (lambda y: np.stack([y, y], axis=1), {}, "position", "labels must be .time,.; give one column at a time"),
        (lambda y: y[:-1], {}, "position", "cut both to the same bins"),
        (lambda y: y, {"discrete": False}, "discrete", "leave discrete out"),
        (lambda y: y, {"period": 2.0}, "period", "None for labels"),
        (lambda y: y, {"posterior": "quadrature"}, "posterior", "one of mean, samples"),
        (lambda y: y, {"regressor": "linear", "readout_settings": None}, "regressor", "cannot decode labels"),
        (lambda y: y, {"regressor": NearestCentroid, "readout_settings": None}, "regressor", "cannot decode labels"),
        (lambda y: y, {"regressor": LogisticRegression()}, "readout_settings", "a classifier takes none"),
        (lambda y: y, {"movement_settings": MovementSettings(kinds=("walk",))}, "movement_settings", "none, chain"),
        (
            lambda y: np.where(np.arange(len(y)) >= len(y) - 5, "late", y),
            {},
            "position",
            "'late' in no training part of the held-out folds",
        ),
    ],
)
def test_wrong_input_is_refused_with_one_clear_line(change, settings, parameter, message):
    rng = np.random.default_rng(8)
    latents, labels = simulate(rng, 300)
    with pytest.raises(InputError, match=message) as error:
        quick_decoder(**settings).fit(latents, change(labels))
    assert error.value.parameter == parameter
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (["center", "left", "up", "left"], "the label 'up'"),
        ([0, 1, 2, 0], "the label 0"),
        (["center", "left"], "truth has 2 bins"),
        ([None, None, None, None], "no bin is left to score"),
    ],
)
def test_wrong_truth_is_refused_with_one_clear_line(truth, message):
    with pytest.raises(InputError, match=message) as error:
        score_decoding(small_decoded(), np.array(truth, dtype=object))
    assert error.value.parameter == "truth"

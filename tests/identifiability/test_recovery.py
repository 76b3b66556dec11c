"""Scores of recovery on maps, predictors and frequencies with known answers."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from kalmanssl.errors import InputError
from kalmanssl.identifiability import (
    AffineMap,
    affine_r2,
    consistency,
    match_frequencies,
    mean_correlation,
    mlp_gain,
    predictive_calibration,
    predictor_r2,
    recovery,
)

MIX = np.array([[2.0, 0.5], [-1.0, 0.7]])


def draw(seed: int, frames: int = 2000, dims: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, dims)) * np.arange(1, dims + 1)


def test_affine_r2_equals_sklearn():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(300, 4)) + 5, rng.normal(size=(200, 4)) + 5
    weight = rng.normal(size=(4, 3))
    train_to, test_to = (x @ weight + np.tanh(x[:, :3]) + rng.normal(size=(len(x), 3)) for x in (train, test))
    expected = r2_score(test_to, LinearRegression().fit(train, train_to).predict(test))
    assert affine_r2(train, train_to, test, test_to) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_affine_map_gives_perfect_scores_in_both_directions(seed):
    train, test = draw(seed), draw(seed + 100)
    found = recovery(train, train @ MIX + 3, test, test @ MIX + 3, nonlinear=False)
    assert found.r2_true_from_learned == pytest.approx(1, abs=1e-12)
    assert found.r2_learned_from_true == pytest.approx(1, abs=1e-12)


def test_videos_and_flattened_frames_agree():
    train, test = draw(0), draw(1)
    flat = affine_r2(train, np.sin(train), test, np.sin(test))
    videos = affine_r2(*(v.reshape(20, 100, 2) for v in (train, np.sin(train), test, np.sin(test))))
    assert flat == videos


def test_the_map_is_fitted_on_train_only():
    """For pure noise with many features, R² is positive on the training data and negative on other data."""
    rng = np.random.default_rng(0)
    x, y, u, v = (rng.normal(size=(100, d)) for d in (30, 2, 30, 2))
    assert affine_r2(x, y, x, y) > 0.2
    assert affine_r2(x, y, u, v) < 0


@pytest.mark.parametrize("seed", range(3))
def test_missing_and_extra_dimensions_lower_one_direction_each(seed):
    train, test = draw(seed, dims=3), draw(seed + 100, dims=3)
    rng = np.random.default_rng(seed)
    lost = recovery(train, train[:, :2], test, test[:, :2], nonlinear=False)
    assert lost.r2_learned_from_true > 0.999
    assert lost.r2_true_from_learned == pytest.approx(2 / 3, abs=0.02)
    assert lost.r2_by_dimension[:2] == pytest.approx((1, 1))
    surplus = [np.column_stack([v, rng.normal(size=len(v))]) for v in (train, test)]
    extra = recovery(train, surplus[0], test, surplus[1], nonlinear=False)
    assert extra.r2_true_from_learned > 0.999
    assert extra.r2_learned_from_true == pytest.approx(3 / 4, abs=0.02)


def test_collapsed_dimension_has_a_score_of_zero():
    train, test = draw(0), draw(1)
    flat = [np.column_stack([v[:, 0], np.full(len(v), 3.7)]) for v in (train, test)]
    assert affine_r2(train, flat[0], test, flat[1]) == pytest.approx(0.5, abs=1e-6)


def test_mean_correlation_matches_dimensions_and_ignores_sign_and_scale():
    true = draw(0, dims=3)
    assert mean_correlation(true, true[:, [2, 0, 1]] * [-3, 2, 1]) == pytest.approx(1, abs=1e-12)
    assert mean_correlation(true, true[:, :2]) == pytest.approx(2 / 3, abs=1e-12)
    turned = draw(0) / [1, 2] @ np.array([[1, 1], [-1, 1]])
    assert mean_correlation(draw(0), turned) == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_matching_is_optimal_not_greedy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20_000))
    learned = np.column_stack([0.8 * a + 0.6 * b, a])  # b correlates only with the first, a with both
    assert mean_correlation(np.column_stack([a, b]), learned) == pytest.approx((1 + 0.6) / 2, abs=0.02)


def test_consistency_of_runs():
    train, test = draw(0), draw(1)
    rng = np.random.default_rng(99)
    assert consistency([train, train @ MIX], [test, test @ MIX]) == pytest.approx(1)
    noise = [rng.normal(size=v.shape) for v in (train, test)]
    third = consistency([train, train @ MIX, noise[0]], [test, test @ MIX, noise[1]])
    assert third == pytest.approx(1 / 3, abs=0.02)


def test_predictor_recovery_requires_the_map_of_the_latents():
    train, test = draw(0), draw(1)
    step = np.array([[0.8, 0.3], [-0.3, 0.8]])
    means = [v @ step.T for v in (train, test)]
    learned = [v @ MIX + 1 for v in (train, test)]
    right = [m @ MIX + 1 for m in means]
    wrong = [0.5 * m @ MIX - 2 for m in means]  # correct up to a different affine map
    latent_map = AffineMap.fit(train, learned[0])
    assert predictor_r2(latent_map, means[1], right[1]) == pytest.approx(1)
    found = recovery(
        train, learned[0], test, learned[1],
        train_means=(means[0], wrong[0]), test_means=(means[1], wrong[1]), nonlinear=False,
    )  # fmt: skip
    assert found.predictor_r2_own_map == pytest.approx(1)
    assert found.predictor_r2_same_map < 0


def test_frequencies_are_matched():
    blocks = [0.3, 1.1]
    A = np.zeros((5, 5))
    for i, angle in enumerate(blocks):
        A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = 0.95 * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
    A[4, 4] = 0.5
    change = np.random.default_rng(0).normal(size=(5, 5))
    found = match_frequencies(change @ A @ np.linalg.inv(change), [1.0, 0.3])
    assert found["angle"] == pytest.approx([1.1, 0.3])
    assert found["error"] == pytest.approx([0.1, 0.0], abs=1e-9)
    assert found["modulus"] == pytest.approx([0.95, 0.95])
    assert np.isnan(match_frequencies(np.array([[0.9]]), [0.1, 0.2])["error"]).sum() == 1


@pytest.mark.parametrize("seed", range(2))
def test_mlp_gain_is_positive_only_for_nonlinear_relations(seed):
    train, test = draw(seed, 3000), draw(seed + 100, 3000)
    bent = [np.column_stack([v[:, 0] + 0.4 * v[:, 0] ** 3, v[:, 1] - 0.5 * v[:, 0] ** 2]) for v in (train, test)]
    assert mlp_gain(bent[0], train, bent[1], test, random_state=seed) > 0.05
    straight = mlp_gain(train @ MIX, train, test @ MIX, test, random_state=seed)
    assert abs(straight) < 1e-6
    noisy = [v @ MIX + np.random.default_rng(seed).normal(size=v.shape) for v in (train, test)]
    assert abs(mlp_gain(noisy[0], train, noisy[1], test, random_state=seed)) < 0.01


@pytest.mark.parametrize(("scale", "expected"), [(1.0, None), (0.5, "narrow"), (2.0, "wide")])
def test_calibration(scale, expected):
    rng = np.random.default_rng(0)
    means, sd = rng.normal(size=(5000, 2)), np.exp(rng.normal(size=(5000, 2)))
    values = means + sd * rng.normal(size=means.shape)
    covs = np.zeros((5000, 2, 2))
    covs[:, [0, 1], [0, 1]] = (scale * sd) ** 2
    found = predictive_calibration(values, means, covs)
    for level in (0.5, 0.8, 0.95):
        theory = 2 * stats.norm.cdf(scale * stats.norm.ppf(0.5 + level / 2)) - 1
        assert found.coverage[f"{100 * level:g}"] == pytest.approx(theory, abs=0.02)
    assert found.pit_deviation == pytest.approx(stats.kstest(found.pit.ravel(), "uniform").statistic, abs=1e-12)
    assert (found.pit_deviation > 0.05) == (expected is not None)


def test_summary_and_dict_are_complete():
    train, test = draw(0), draw(1)
    found = recovery(
        train, train @ MIX, test, test @ MIX,
        train_means=(train, train @ MIX), test_means=(test, test @ MIX), test_covs=np.eye(2),
        transition=np.diag([0.9, 0.8]), angles=[0.0],
    )  # fmt: skip
    text = found.summary()
    for part in ("true latents from the learned", "nonlinear probe", "predictor", "frequency", "95 % interval"):
        assert part in text
    kept = json.loads(json.dumps(found.to_dict()))
    assert kept["r2_true_from_learned"] == pytest.approx(1)
    assert sum(kept["calibration"]["pit_histogram"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {**a, "test_true": a["test_true"][:-1]}, "same frames"),
        (lambda a: {**a, "train_learned": np.full_like(a["train_learned"], np.nan)}, "train_learned|fit_.*NaN"),
        (lambda a: {**a, "test_learned": a["test_learned"][:, :1]}, "they must be equal"),
        (lambda a: {**a, "train_true": a["train_true"][:2], "train_learned": a["train_learned"][:2]}, "needs more"),
        (lambda a: {**a, "train_true": a["train_true"][:, 0]}, r"must be \(frames, dims\)"),
        (
            lambda a: {**a, "test_means": (a["test_true"], a["test_learned"])},
            "train_means and test_means must be given together",
        ),
        (lambda a: {**a, "test_covs": np.eye(2)}, "requires test_means"),
        (lambda a: {**a, "angles": [0.1]}, "transition and angles must be given together"),
    ],
)
def test_bad_input_is_rejected(change, message):
    names = ("train_true", "train_learned", "test_true", "test_learned")
    arguments = dict(zip(names, (draw(0), draw(0) @ MIX, draw(1), draw(1) @ MIX), strict=True))
    with pytest.raises(InputError, match=message) as raised:
        recovery(**change(arguments), nonlinear=False)
    assert "\n" not in str(raised.value)


def test_bad_covariances_and_frequencies_are_rejected():
    x = draw(0)
    with pytest.raises(InputError, match="covs"):
        predictive_calibration(x, x, np.eye(3))
    with pytest.raises(InputError, match="positive"):
        predictive_calibration(x, x, -np.eye(2))
    with pytest.raises(InputError, match="square"):
        match_frequencies(np.ones((2, 3)), [0.1])
    with pytest.raises(InputError, match="radians"):
        match_frequencies(np.eye(2), [7.0])
    with pytest.raises(InputError, match="two or more runs"):
        consistency([x], [x])

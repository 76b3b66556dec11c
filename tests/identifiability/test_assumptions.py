"""Tests of the assumptions, on simulated systems that satisfy or violate each of them, over several seeds."""

import json
import time

import numpy as np
import pytest
import torch
from moving_dot import walk
from scipy import stats

from kalmanssl import KalmanSSL, Recording
from kalmanssl.entropy import LogDetEntropy
from kalmanssl.errors import InputError
from kalmanssl.identifiability import Deviation, check_assumptions, check_latents
from kalmanssl.identifiability._report import Threshold, judge
from kalmanssl.identifiability._residual_statistics import _l_ratios, _mardia, non_gaussian
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, MLPEncoder

SEEDS = range(3)


EVERYTHING = (
    "gaussian", "constant_covariance", "white", "covariance", "coverage", "jacobian", "residual_rank", "latent_rank",
)  # fmt: skip


TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


def system(seed, frames=20_000, noise=None, level=None, decay=0.9, batch=20):
    """Linear system of three latents: latents and predicted means (batch, time, 3), and the transition matrix."""
    rng = np.random.default_rng(seed)
    A = decay * TURN
    e = rng.normal(size=(batch, frames // batch, 3)) if noise is None else noise(rng, (batch, frames // batch, 3))
    z, m = np.zeros_like(e), np.zeros_like(e)
    z[:, 0] = e[:, 0]
    for t in range(1, e.shape[1]):
        m[:, t] = z[:, t - 1] @ A.T
        z[:, t] = m[:, t] + (1 if level is None else level(m[:, t])) * e[:, t]
    return z, m, A


def found(name, z, m, cov=None, **settings):
    return check_latents(z, m, cov, burn_in=5, **settings)[name]


def student(df):
    return lambda rng, shape: rng.standard_t(df, size=shape) * np.sqrt((df - 2) / df)


def laplace(rng, shape):
    return rng.laplace(size=shape) / np.sqrt(2)


@pytest.mark.parametrize("frames", [2000, 20_000, 100_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_all_assumptions_hold_for_a_system_that_satisfies_them(seed, frames):
    z, m, A = system(seed, frames)
    step = torch.from_numpy(A)
    report = check_latents(z, m, np.eye(3), predictor=lambda past: past[:, -1] @ step.T)
    assert {row.name: row.verdict for row in report.assumptions} == dict.fromkeys(EVERYTHING, "holds")
    assert report.verdict == "holds"


@pytest.mark.parametrize(
    "noise",
    [
        laplace,
        student(5),
        lambda rng, shape: rng.uniform(-np.sqrt(3), np.sqrt(3), size=shape),
        lambda rng, shape: rng.exponential(size=shape) - 1,
        lambda rng, shape: laplace(rng, shape) @ TURN,  # sums of sources look more Gaussian
    ],
    ids=["laplace", "student", "uniform", "exponential", "mixed laplace"],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_non_gaussian_noise_fails(noise, seed):
    row = found("gaussian", *system(seed, noise=noise)[:2])
    assert row.verdict == "fails"
    assert row.numbers["mardia_kurtosis_p_value"] < 1e-6


def test_mixed_non_gaussian_sources_are_detected_along_other_axes():
    rng = np.random.default_rng(0)
    mix = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    u = rng.laplace(size=(40_000, 8)) / np.sqrt(2)
    # One source of eight is not Gaussian, and contributes to all dimensions.
    u[:, 1:] = rng.normal(size=(40_000, 7))
    row = non_gaussian(u @ mix.T)
    alone = np.abs(_l_ratios(u @ mix.T)[1] - 0.1226).max()
    assert row.size > 0.09 > alone
    assert "fourth moment" in row.where


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tiny_deviation_is_significant_but_holds(seed):
    """At 100 000 frames a Student t with 30 degrees of freedom is rejected by any p-value."""
    z, m, _ = system(seed, 100_000, noise=student(30))
    row = found("gaussian", z, m)
    assert row.verdict == "holds"
    assert row.numbers["mardia_kurtosis_p_value"] < 1e-6
    slight = found("constant_covariance", *system(seed, 100_000, level=lambda m: np.exp(0.05 * np.tanh(m[:, :1])))[:2])
    assert slight.verdict == "holds"
    assert slight.value > slight.chance
    scaled = found("covariance", z, m, 1.03 * np.eye(3))
    assert scaled.verdict == "holds"
    assert scaled.numbers["nis_p_value"] < 1e-6
    correlated = found("white", z, m + 0.03 * np.roll(z - m, 1, axis=1))
    assert correlated.verdict == "holds"
    assert correlated.numbers["portmanteau_p_value"] < 1e-6


def test_few_outliers_do_not_change_the_verdict():
    z, m, _ = system(0, 100_000)
    z.reshape(-1)[::29_989] += 30
    row = found("gaussian", z, m)
    assert row.numbers["largest_excess_kurtosis"] > 5
    assert row.verdict == "holds"


def test_verdict_is_doubtful_with_too_few_frames():
    assert judge(Deviation(float("nan"), 0.0), Threshold(0.02, 0.05))[0] == "doubtful"
    verdict, reason = judge(Deviation(0.05, 0.2), Threshold(0.02, 0.05))
    assert verdict == "doubtful"
    assert "too few" in reason


def test_l_moments_and_mardia_statistics_equal_theory():
    rng = np.random.default_rng(0)
    draws = np.column_stack([d.rvs(size=200_000, random_state=rng) for d in (stats.norm, stats.uniform, stats.expon)])
    skew, kurt = _l_ratios(draws)
    assert skew == pytest.approx([0, 0, 1 / 3], abs=0.01)
    assert kurt == pytest.approx([0.1226, 0, 1 / 6], abs=0.01)
    u = rng.normal(size=(500, 3))
    u = (u - u.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(u.T, bias=True))).T
    found_by_definition = ((u @ u.T) ** 3).mean()
    assert _mardia(u)["mardia_skewness"] == pytest.approx(found_by_definition)
    assert _mardia(u)["mardia_excess_kurtosis"] == pytest.approx(((u**2).sum(1) ** 2).mean() - 15)


@pytest.mark.parametrize(
    "level",
    [
        lambda m: np.exp(0.7 * np.tanh(m[:, :1])),  # along a dimension
        lambda m: np.where(np.linalg.norm(m, axis=1, keepdims=True) > 2, 1.6, 0.5),  # far from the center
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_state_dependent_noise_is_detected(level, seed):
    z, m, _ = system(seed, level=level, decay=0.8)
    assert found("constant_covariance", z, m).verdict == "fails"


@pytest.mark.parametrize("seed", SEEDS)
def test_slowly_changing_noise_is_detected(seed):
    def in_waves(rng, shape):
        loud = np.sin(np.arange(shape[1])[None] / 20 + rng.uniform(0, 6, size=(shape[0], 1))) > 0
        return rng.normal(size=shape) * np.where(loud, 1.6, 0.3)[..., None]

    assert found("constant_covariance", *system(seed, noise=in_waves)[:2]).verdict == "fails"


@pytest.mark.parametrize("seed", SEEDS)
def test_heavy_tails_do_not_look_like_changing_noise(seed):
    assert found("constant_covariance", *system(seed, noise=laplace)[:2]).verdict == "holds"


def test_model_that_predicts_changing_noise_violates_the_assumption():
    z, m, _ = system(0, 4000)
    cov = np.eye(3) * np.exp(np.random.default_rng(0).normal(size=z.shape[:2]))[..., None, None]
    row = found("constant_covariance", z, m, cov)
    assert row.verdict == "fails"
    assert "model itself" in row.sentence


@pytest.mark.parametrize("seed", SEEDS)
def test_correlated_residuals_are_detected(seed):
    z, m, _ = system(seed)
    row = found("white", z, 0.5 * m)
    assert row.verdict == "fails"
    assert "lag 1" in row.sentence


def test_lags_do_not_cross_sequences():
    rng = np.random.default_rng(0)
    e = rng.normal(size=(5000, 2, 1))
    e[1:, 0] = e[:-1, 1]
    assert check_latents(e, np.zeros_like(e))["white"].value < 0.05


@pytest.mark.parametrize(("scale", "verdict"), [(1.0, "holds"), (1.3, "doubtful"), (2.0, "fails"), (0.5, "fails")])
@pytest.mark.parametrize("seed", SEEDS)
def test_predicted_covariance(scale, verdict, seed):
    z, m, _ = system(seed)
    row = found("covariance", z, m, scale * np.eye(3))
    assert row.verdict == verdict
    assert row.numbers["nis"] == pytest.approx(1 / scale, rel=0.03)
    assert found("covariance", z, m, np.diag([1, 1, scale])).verdict == verdict


def test_each_frame_uses_its_own_covariance():
    rng = np.random.default_rng(0)
    z, m, _ = system(0, 4000)
    variance = np.exp(rng.normal(size=z.shape[:2]))[..., None]
    e = rng.normal(size=z.shape) * np.sqrt(variance)
    cov = np.eye(3) * variance[..., None]
    report = check_latents(m + e, m, cov)
    assert report["covariance"].verdict == "holds"
    assert report["gaussian"].verdict == "holds"
    assert check_latents(list(m + e), list(m), list(cov)).to_dict() == report.to_dict()


@pytest.mark.parametrize("seed", SEEDS)
def test_predictor_without_one_direction_is_detected(seed):
    z, _, A = system(seed)
    flat = A @ (np.eye(3) - np.ones((3, 3)) / 3)
    m = np.concatenate([np.zeros_like(z[:, :1]), z[:, :-1] @ flat.T], 1)
    step = torch.from_numpy(flat)
    report = check_latents(z, m, predictor=lambda past: past[:, -1] @ step.T)
    assert report["coverage"].verdict == "fails"
    assert report["jacobian"].verdict == "fails"
    assert report["coverage"].numbers["effective_rank"] < 2.1
    weak = check_latents(z, m + 0.1 * z, burn_in=5)["coverage"]
    assert weak.verdict == "doubtful"


def test_predicted_means_can_span_the_space_with_singular_jacobians():
    """The mean is a curve in two dimensions: it spans them but has one direction at each point."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1, 4000, 2))

    def predict(past):
        return torch.stack([torch.sin(2 * past[:, -1, 0]), torch.cos(2 * past[:, -1, 0])], -1)

    m = np.stack([np.sin(2 * z[..., 0]), np.cos(2 * z[..., 0])], -1)
    report = check_latents(z + m, m, predictor=predict)
    assert report["coverage"].verdict == "holds"
    assert report["jacobian"].verdict == "fails"


def test_coverage_is_invariant_to_affine_maps():
    z, m, A = system(0)
    B = np.random.default_rng(1).normal(size=(3, 3))
    jacobian = np.broadcast_to(A, (10, 3, 3))
    one = check_latents(z, m, jacobians=jacobian)
    other = check_latents(z @ B.T + 2, m @ B.T + 2, jacobians=B @ jacobian @ np.linalg.inv(B))
    for name in ("coverage", "jacobian"):
        assert other[name].value == pytest.approx(one[name].value, rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_degenerate_covariances_are_detected(seed):
    z, m, _ = system(seed)
    m = m.copy()
    m[..., 2] = z[..., 2]  # predicted without error
    report = check_latents(z, m, burn_in=5)
    assert report["residual_rank"].verdict == "fails"
    assert report["latent_rank"].verdict == "holds"
    copied = np.concatenate([z[..., :2], z[..., :1]], -1)
    assert check_latents(copied, 0.9 * copied)["latent_rank"].verdict == "fails"
    nearly = copied + 0.01 * np.random.default_rng(seed).normal(size=z.shape) * [0, 0, 1]
    assert check_latents(nearly, 0.9 * nearly)["latent_rank"].verdict == "doubtful"


def test_a_hundred_thousand_frames_take_seconds():
    z, m, A = system(0, 100_000)
    data = np.random.default_rng(0).normal(size=(*z.shape[:2], 40)) + z @ np.ones((3, 40))
    start = time.perf_counter()
    check_latents(z, m, np.eye(3), data=data, true=z, jacobians=np.broadcast_to(A, (100, 3, 3)))
    assert time.perf_counter() - start < 30


def test_report_as_text_and_as_dict():
    z, m, _ = system(0, 4000, noise=laplace)
    report = check_latents(z, m, np.eye(3))
    text = report.summary()
    for row in report.assumptions:
        assert row.sentence.split()[0] in text
        assert row.verdict in text
    assert [len(row) for row in report.rows()] == [6] * (len(report.assumptions) + 1)
    kept = json.loads(json.dumps(report.to_dict()))
    assert kept["verdict"] == "fails"
    with pytest.raises(KeyError, match="gaussian"):
        report["gausian"]


def linear_model(A, cov):
    """A sequence model with identity encoder and a filter for latents that are observed exactly."""
    torch.manual_seed(0)
    predictor = KalmanPredictor(3, 3, ConstantNoise(3), ConstantNoise(3))
    model = SequenceModel(torch.nn.Identity(), predictor, LDM(LogDetEntropy()))
    with torch.no_grad():
        predictor.A.copy_(torch.from_numpy(A))
        for head, variance in ((predictor.observation_noise, 1e-4), (predictor.process_noise, cov)):
            for parameter in head.parameters():
                parameter.fill_(float(np.log(variance)))
    return model


@pytest.mark.parametrize("seed", range(2))
def test_a_sequence_model_with_the_true_parameters_passes_and_with_others_fails(seed):
    z, _, A = system(seed, 10_000)
    right = check_assumptions(linear_model(A, 1.0), z.astype(np.float32), true=z)
    variance = right["covariance"].numbers["nis"]
    assert 0.5 < variance < 2  # the noise model does not have to be parametrized by its logarithm
    names = ("gaussian", "constant_covariance", "white", "coverage", "jacobian", "injective", "folding")
    assert {right[name].verdict for name in names if name != "injective"} == {"holds"}
    wrong = check_assumptions(linear_model(0.3 * A, 1.0), z)
    assert wrong["white"].verdict == "fails"
    single = check_assumptions(linear_model(A, 1.0), z[0])
    assert single.frames == z.shape[1] - 10


def test_a_fitted_estimator_on_arrays_and_recordings():
    rng = np.random.default_rng(0)
    p, _ = walk(0, 4000)
    p = p.reshape(-1, 2)
    counts = rng.poisson(np.exp(p @ rng.normal(size=(2, 20)) * 0.5 + 0.5))
    model = KalmanSSL(
        2, 3, bins_per_step=2, epochs=1, steps_per_epoch=3, batch_size=8, hidden=(16,), random_state=0, progress=False
    )
    model.fit(counts)
    weights = [p.clone() for p in model.model_.parameters()]
    report = check_assumptions(model, counts, true=p)
    assert report.dims == 2
    assert {"gaussian", "covariance", "jacobian", "injective", "folding"} <= {r.name for r in report.assumptions}
    assert all(torch.equal(a, b) for a, b in zip(weights, model.model_.parameters(), strict=True))
    time_of_bins = np.arange(4000) * 0.025
    time_of_bins[1500:] += 10
    recording = Recording.from_arrays(counts, time=time_of_bins, bin_size=0.025)
    parts = check_assumptions(model, recording)
    assert parts.frames == 4000 // 2 - 2 * 10  # one of two interleaved sequences of each segment, without ten steps
    with pytest.raises(InputError, match="true must be finite"):
        check_assumptions(model, counts, true=p[:-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {**a, "latents": a["latents"][0]}, r"latents must be \(batch, time, dim\)"),
        (lambda a: {**a, "predicted_mean": a["predicted_mean"][:, 1:]}, "predicted_mean must have the shape"),
        (lambda a: {**a, "predicted_mean": a["predicted_mean"] * np.nan}, "predicted_mean has NaN"),
        (lambda a: {**a, "predicted_cov": np.eye(2)}, "predicted_cov must be"),
        (lambda a: {**a, "predicted_cov": -np.eye(3)}, "not positive definite"),
        (lambda a: {**a, "data": np.ones((3, 4, 5))}, "data must have the shape"),
        (lambda a: {**a, "jacobians": np.ones((3, 2, 2))}, "jacobians must be"),
        (lambda a: {**a, "predictor": lambda past: past[:, -1, :1]}, "predictor must return means"),
        (
            lambda a: {**a, "burn_in": 95},
            "200 steps are needed for 3 latents, and 100 remain of 2000 in 20 segments without the first 95 of each, "
            "where the filter converges: use a part about 2 times as long$",
        ),
        (lambda a: {**a, "burn_in": 100}, "and 0 remain of 2000 .*: use longer segments$"),
        (lambda a: {**a, "burn_in": -1}, "burn_in"),
        (lambda a: {**a, "burn_in": 0, "lags": 0}, "lags"),
        (lambda a: {**a, "predicted_mean": a["latents"]}, "predicted without error"),
        (lambda a: {**a, "latents": [np.ones((50, 3)), np.ones((50, 2))]}, "different dimensions"),
    ],
)
def test_bad_input_is_rejected(change, message):
    z, m, _ = system(0, 2000)
    with pytest.raises(InputError, match=message) as raised:
        check_latents(**change({"latents": z, "predicted_mean": m}))
    assert "\n" not in str(raised.value)


def test_untestable_assumptions_are_skipped_with_a_reason():
    z, m, _ = system(0, 2000)
    report = check_latents(z, m, data=np.ones((*z.shape[:2], 5)))
    assert "two are needed" in report.skipped["injective"]
    assert "not tested. data has 0 features that vary" in report.summary()
    assert report["gaussian"].verdict == "holds"
    assert "injective" not in {row.name for row in report.assumptions}


def test_other_models_are_rejected():
    with pytest.raises(InputError, match="model must be a KalmanSSL"):
        check_assumptions(MLPEncoder(3, 2), np.zeros((500, 3)))

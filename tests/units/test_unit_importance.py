"""Importance of units on simulated head-direction cells, with units that are pure noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from kalmanssl import KalmanSSL, Recording, plotting
from kalmanssl.datasets import ring_cells
from kalmanssl.errors import InputError
from kalmanssl.units import UnitImportance, unit_importance

SMALL = {
    "latent_dim": 3, "state_dim": 3, "hidden": (8,), "bins_per_step": 4, "window": 40, "batch_size": 32, "epochs": 2,
    "steps_per_epoch": 10, "validation_fraction": 0, "progress": False, "random_state": 0, "device": "cpu",
}  # fmt: skip
CELLS, NOISE = [f"cell{i}" for i in range(8)], [f"noise{i}" for i in range(12)]
SHIFTS = 19


def simulate(seed: int, duration: float) -> Recording:
    """Head-direction cells, and units whose rates are independent and change within half a second."""
    ring = ring_cells(n_units=len(CELLS), duration=duration, random_state=seed, gain_sd=0.3)
    rng = np.random.default_rng(100 + seed)
    log_rate = np.repeat(rng.standard_normal((len(ring) // 20 + 1, len(NOISE))), 20, axis=0)[: len(ring)]
    activity = np.concatenate([ring.activity, rng.poisson(0.08 * np.exp(0.5 * log_rate))], axis=1)
    angle = ring.behavior["head_direction"]
    behavior = {"xy": np.stack([np.cos(angle), np.sin(angle)], axis=1), "x": np.cos(angle), "angle": angle}
    return Recording.from_arrays(activity, bin_size=ring.bin_size, behavior=behavior, unit_ids=CELLS + NOISE)


@pytest.fixture(scope="module")
def model() -> KalmanSSL:
    return KalmanSSL(**SMALL).fit(simulate(0, 120))


@pytest.fixture(scope="module")
def decoder(model):
    training = simulate(0, 120)
    return LinearRegression().fit(np.asarray(model.transform(training)), training.behavior["xy"])


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_informative_units_are_found_in_the_latents(model, method):
    found = unit_importance(model, simulate(1, 50), units=CELLS, n_shifts=SHIFTS, method=method)
    assert (found.p_value == 1 / (SHIFTS + 1)).mean() >= 0.75


def test_informative_units_are_found_in_the_decoded_behavior(model, decoder):
    given = {"decoder": decoder, "behavior": "xy", "n_shifts": SHIFTS}
    found = unit_importance(model, simulate(1, 50), **given)
    assert (found.p_value[: len(CELLS)] == 1 / (SHIFTS + 1)).mean() >= 0.75
    assert found.score[: len(CELLS)].min() > np.abs(found.score[len(CELLS) :]).max()


@pytest.mark.parametrize("of_behavior", [False, True])
def test_p_values_of_noise_units_are_uniform(model, decoder, of_behavior):
    p = []
    for seed in range(1, 6):
        recording = simulate(seed, 25)
        given = {"decoder": decoder, "behavior": recording.behavior["xy"]} if of_behavior else {}
        found = unit_importance(model, recording, units=NOISE, n_shifts=SHIFTS, random_state=seed, **given)
        p.append(found.p_value)
    counts = np.histogram(np.concatenate(p), [0, 0.201, 0.401, 0.601, 0.801, 1.001])[0]
    assert counts.sum() == 60
    assert chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_score_of_a_unit_for_behavior_is_the_decrease_of_r2_without_it(model, decoder, method):
    recording = simulate(1, 30)

    def r2(fraction: float) -> float:
        activity = recording.activity.copy()
        activity[:, 2] = activity[:, 2].mean() + fraction * (activity[:, 2] - activity[:, 2].mean())
        decoded = decoder.predict(model.transform(replace(recording, activity=activity)))
        return r2_score(recording.behavior["xy"], decoded, multioutput="variance_weighted")

    given = {"decoder": decoder, "behavior": "xy", "units": ["cell2"], "n_shifts": 1, "method": method}
    expected = r2(1) - r2(0) if method == "occlusion" else (r2(1e-3) - r2(0)) / 1e-3
    np.testing.assert_allclose(unit_importance(model, recording, **given).score, expected, rtol=0.02)


@pytest.fixture(scope="module")
def linear() -> tuple[KalmanSSL, Recording]:
    """A model without nonlinearity, and a signal of six channels."""
    rng = np.random.default_rng(0)
    phase = np.cumsum(0.1 + 0.02 * rng.standard_normal(1500))
    signal = np.cos(phase[:, None] - np.arange(6)) + 0.5 * rng.standard_normal((1500, 6))
    recording = Recording.from_arrays(signal, bin_size=0.1, kind="signal")
    return KalmanSSL(**{**SMALL, "latent_dim": 2, "hidden": (), "bins_per_step": 1}).fit(recording), recording


def test_shares_of_a_linear_model_add_up_to_one_and_do_not_depend_on_the_method(linear):
    scores = [unit_importance(*linear, n_shifts=1, method=method).score for method in ("occlusion", "gradient")]
    np.testing.assert_allclose(scores[0].sum(), 1, atol=0.02)
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-3)


def test_angles_are_compared_as_cosine_and_sine(linear):
    model, recording = linear

    class Decoded(np.ndarray):
        periods = (10.0,)

    class AngleDecoder:
        def predict(self, latents):
            return (np.arctan2(*latents.mean[:, :2].T) * 10 / (2 * np.pi)).view(Decoded)

    angle = np.asarray(AngleDecoder().predict(model.transform(recording)))
    given = {"decoder": AngleDecoder(), "n_shifts": 2, "units": ["0", "1"]}
    turned = unit_importance(model, recording, behavior=angle + 10.0, **given)
    np.testing.assert_allclose(turned.score, unit_importance(model, recording, behavior=angle, **given).score)


def test_the_same_seed_gives_the_same_result_and_a_silent_unit_has_no_score(model):
    recording = simulate(1, 15)
    activity = recording.activity.copy()
    activity[:, 0] = 0
    recording = replace(recording, activity=activity)
    found = [unit_importance(model, recording, units=["cell0", "cell1"], n_shifts=3) for _ in range(2)]
    np.testing.assert_array_equal(found[0].null, found[1].null)
    assert (found[0].score[0], found[0].p_value[0]) == (0, 1)


def test_table_and_figure_show_the_scores():
    pytest.importorskip("pandas")
    null = np.tile(np.arange(19) / 19, (2, 1))
    found = UnitImportance(("a", "b"), np.array([0.5, 2.0]), null)
    table = found.to_dataframe(level=0.5)
    np.testing.assert_allclose(table.loc["b"], [2, 9 / 19, 1 / 20])
    np.testing.assert_allclose(table["p_value"]["a"], (1 + 9) / 20)
    mine = plotting.new_axes()[0]
    assert found.plot(ax=mine) is mine
    assert [label.get_text() for label in mine.get_xticklabels()] == ["b", "a"]
    with pytest.raises(InputError, match="one entry per unit"):
        plotting.plot_unit_importance(np.ones(2), np.ones(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recording": np.ones((9, 3))}, "recording must be a Recording"),
        ({"method": "shapley"}, "method must be one of occlusion, gradient"),
        ({"units": ["cell0", "nobody"]}, "there is no unit 'nobody'"),
        ({"units": "cell0"}, "units must be a list of names"),
        ({"n_shifts": 0}, "n_shifts must be a whole number, at least 1"),
        ({"min_shift": 7.4}, "the recording has 600 bins, which allow 9 shifts of at least 7.4 s"),
        ({"decoder": LinearRegression()}, "behavior is missing"),
        ({"behavior": "xy"}, "decoder is missing"),
        ({"decoder": 3, "behavior": "xy"}, "decoder must have a method predict; got int"),
        ({"decoder": LinearRegression(), "behavior": "yx"}, "there is no behavior 'yx': did you mean 'x'"),
    ],
)
def test_unusable_input_is_named(model, changes, message):
    given = {"recording": simulate(1, 15), "n_shifts": 10} | changes
    with pytest.raises(InputError, match=message):
        unit_importance(model, given.pop("recording"), **given)


def test_behavior_of_another_shape_than_the_decoded_one_is_refused(model, decoder):
    with pytest.raises(InputError, match=r"behavior has shape \(600, 1\) and the decoder predicts \(600, 2\)"):
        unit_importance(model, simulate(1, 15), decoder=decoder, behavior="x", n_shifts=5)

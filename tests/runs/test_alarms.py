"""Alarms of an evaluation: each one is raised where it must be, and none on a good fit."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from kalmanssl.data import Recording, running_bins
from kalmanssl.datasets import place_cells
from kalmanssl.decoding import PositionDecoder, constant_r2, cross_fit, score_decoding
from kalmanssl.errors import InputError
from kalmanssl.estimator import KalmanSSL
from kalmanssl.runs import Evaluation, Run, RunSettings, alarm_lines, held_out_gain
from kalmanssl.runs._alarms import _uncertain_gain, _worse_than_chance, find_alarms
from kalmanssl.runs._decoding_checks import check_decoding
from kalmanssl.runs._evaluated_bins import EvaluatedBins
from kalmanssl.runs._references import fit_references
from kalmanssl.runs._text import with_unit
from kalmanssl.runs.report._report import build_report

SPLIT = 3840.0
ZONES = (0.15, 1.45)
SMALL = {"latent_dim": 6, "state_dim": 12, "epochs": 4, "random_state": 0}


@pytest.fixture(scope="module")
def parts():
    return place_cells(n_units=40, n_interneurons=0, duration=400.0, random_state=2).split(at=SPLIT)


def fit_model(training):
    return KalmanSSL(**SMALL, progress=False).fit(training)


@pytest.fixture(scope="module")
def fits(parts):
    """A model of the training part, and its held-out fits."""
    model = fit_model(parts[0])
    return model, cross_fit(model, parts[0])


def fit(training, behavior, model, held_out_fits=(), zones=ZONES):
    """Return a run whose decoder was fitted on a behavior over the bins of the training part."""
    metadata = {
        "recording": {
            "source": "rat.nwb",
            "units": training.n_units,
            "bin_size_s": training.bin_size,
            "spikes": 1000,
            "start_s": float(training.time[0]),
            "stop_s": 4000.0,
            "fitted_until_s": float(training.time[-1]),
            "fitted_s": training.duration,
            "notes": [],
        },
        "behavior": {"name": "position", "unit": "meters"},
    }
    settings = RunSettings(recording="rat.nwb", end_zones=None if zones is None else list(zones), model=SMALL)
    decoder = PositionDecoder(random_state=0).fit(model.transform(training), behavior, held_out_fits=held_out_fits)
    return Run(settings, model, decoder, metadata)


@pytest.fixture(scope="module")
def good(parts, fits):
    training, rest = parts
    run = fit(training, training.behavior["position"], *fits)
    run.evaluation = Evaluation.of(run, rest)
    return run


@pytest.fixture(scope="module")
def sides(parts, fits):
    """A run that decodes in which half of the track the rat is."""
    training, _ = parts
    return fit(training, side_of(training), *fits, zones=None)


def side_of(part):
    return np.where(part.behavior["position"] < 0.8, "left", "right")


def with_behavior(recording, values):
    return replace(recording, behavior={"position": values})


def alarms_of(run, part):
    return {alarm.name: alarm.message for alarm in Evaluation.of(run, part).alarms}


def test_a_good_fit_has_no_alarm(good):
    assert good.evaluation.scores["running"]["r2"] > 0.7
    assert good.evaluation.alarms == []
    assert 'id="alarms"' not in build_report(good)


def test_a_good_fit_of_labels_has_no_alarm(sides, parts):
    evaluation = Evaluation.of(sides, with_behavior(parts[1], side_of(parts[1])))
    assert evaluation.scores["all"]["accuracy"] > 0.8
    assert evaluation.alarms == []


def test_activity_without_dynamics_raises_an_alarm_with_the_gain_and_its_error():
    rng = np.random.default_rng(0)
    noise = Recording.from_arrays(rng.poisson(1.0, (6000, 30)), bin_size=0.025, behavior={"position": rng.random(6000)})
    run = fit(noise, noise.behavior["position"], fit_model(noise), zones=None)
    histories = (run.model.history_, run.model.noise_history_)  # of both stages
    best = max(gain for history in histories for gain in history["held_out_score"])
    assert best < 0
    gain = held_out_gain(run.model)
    assert gain.value == best
    assert gain.error > 0
    # Past and present are independent, so that the gain differs from zero only by chance.
    message = alarms_of(run, noise)["uncertain_gain"]
    assert message.startswith("it is uncertain whether the latents predict")
    assert f"{gain} nats per bin (± one standard error)" in message
    assert "±" in str(gain)


@pytest.mark.parametrize(
    ("gain", "error", "alarm"),
    [
        (-0.5, 0.1, "worse_than_chance"),
        (-0.5, 0.3, "uncertain_gain"),
        (0.5, 0.3, "uncertain_gain"),
        (0.5, 0.1, None),
        (-0.5, None, "worse_than_chance"),  # of a run without standard errors
        (0.5, None, None),
    ],
)
def test_a_gain_is_called_worse_than_chance_only_as_far_as_its_error_allows(gain, error, alarm):
    errors = {} if error is None else {"held_out_score_error": [0.0, error]}
    history = {"held_out_score": [gain - 1, gain], **errors}
    model = SimpleNamespace(history_=history, noise_history_={}, behavior_weight=0.0)
    seen = SimpleNamespace(run=SimpleNamespace(model=model))
    checks = {"worse_than_chance": _worse_than_chance, "uncertain_gain": _uncertain_gain}
    found = {name: check(seen) for name, check in checks.items() if check(seen)}
    assert list(found) == ([] if alarm is None else [alarm])
    if error is not None and alarm:
        assert f"{gain:.2f} ± {error:.2f} nats per bin" in found[alarm]


def test_the_gain_does_not_contain_the_log_density_of_a_behavior(good, parts):
    """With `behavior_weight` the score of an epoch is the gain plus the weighted log-density."""
    model = KalmanSSL(latent_dim=4, state_dim=6, epochs=1, behavior_weight=5.0, random_state=0, progress=False)
    model.fit(parts[0], parts[0].behavior["position"] * 1e4)
    assert max(model.history_["held_out_score"]) < 0
    assert "worse_than_chance" not in alarms_of(replace(good, model=model, decoder=None), parts[1])


def test_decoded_positions_of_a_reversed_track_are_below_the_baseline(good, parts):
    reversed_track = 1.6 - parts[1].behavior["position"]
    message = alarms_of(good, with_behavior(parts[1], reversed_track))["below_baseline"]
    runs = running_bins(reversed_track, end_zones=ZONES)
    decoded = good.decoder.predict(good.model.transform(parts[1]))
    assert f"R² of position is {score_decoding(decoded, reversed_track, mask=runs)['r2']:.3g} on moving bins" in message


def test_a_decoder_that_a_ridge_regression_beats_has_an_alarm(good, parts, fits):
    training, rest = parts
    references = fit_references(training, "position", None, None)
    known = replace(good, metadata=good.metadata | {"reference": references}, decoder=good.decoder)
    assert "below_ridge_regression" not in alarms_of(known, rest)
    shifted = with_behavior(training, np.roll(training.behavior["position"], 60))  # 1.5 s later
    poor = fit(shifted, shifted.behavior["position"], good.model, fits[1], zones=ZONES)
    poor.metadata["reference"] = references
    evaluation = Evaluation.of(poor, rest)
    message = {alarm.name: alarm.message for alarm in evaluation.alarms}["below_ridge_regression"]
    ridge = evaluation.scores["running"]["references"]["ridge"]["median_error"]
    assert f"better: median error {with_unit(ridge, 'm')} instead of" in message


def test_baseline_is_the_mean_of_the_fitted_part(good):
    """A rat at rest has no variance, and R² is far below zero for the best decoder and for the constant alike."""
    decoder = good.decoder.decoders_["filtered"]
    (axis,) = decoder.grids[0].axes
    constant = float(decoder.occupancies[0] @ axis.centers)
    truth = np.random.default_rng(1).normal(0.3, 0.01, (500, 1))
    expected = 1 - ((truth - constant) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert constant_r2(decoder, truth) == pytest.approx(expected, rel=1e-6)
    assert expected < -100
    assert np.isnan(constant_r2(decoder, np.full((10, 1), 0.3)))


def test_swapped_labels_are_below_the_baseline(sides, parts):
    swapped = np.where(side_of(parts[1]) == "left", "right", "left")
    message = alarms_of(sides, with_behavior(parts[1], swapped))["below_baseline"]
    assert "the most frequent label of the fit" in message


def test_a_behavior_unrelated_to_the_activity_has_wide_intervals(parts, fits):
    training, rest = parts
    run = fit(training, np.roll(training.behavior["position"], len(training) // 3), *fits)
    evaluation = Evaluation.of(run, rest)
    message = {alarm.name: alarm.message for alarm in evaluation.alarms}["wide_intervals"]
    width = evaluation.scores["running"]["width"]["95"]
    assert f"{100 * width:.3g} cm wide on moving bins" in message  # in the unit of the errors
    page = build_report(replace(run, evaluation=evaluation))
    assert '<strong class="fails">wide intervals</strong>: the 95 % interval' in page
    assert page.index('id="alarms"') < page.index('class="tiles"')


def test_labels_unrelated_to_the_activity_have_large_sets(parts, fits):
    training, rest = parts
    run = fit(training, np.random.default_rng(0).choice(["a", "b", "c"], len(training)), *fits, zones=None)
    random = np.random.default_rng(1).choice(["a", "b", "c"], len(rest))
    assert "of 3 labels" in alarms_of(run, with_behavior(rest, random))["wide_intervals"]


def test_a_part_without_running_is_reported(good, parts):
    rest = parts[1]
    runs = running_bins(rest.behavior["position"], end_zones=ZONES)
    first = int(np.flatnonzero(np.diff(runs.astype(int)) == -1)[0]) + 1
    last = first + int(np.flatnonzero(runs[first:])[0]) - 1
    alarms = alarms_of(good, rest.restrict(rest.time[first], rest.time[last]))
    assert "between 0.15 and 1.45 m" in alarms["never_runs"]
    assert "below_baseline" not in alarms  # though R² is far below zero where the rat does not move


def test_a_short_fit_has_few_calibration_errors(parts):
    training, rest = parts
    short = training.restrict(3600.0, 3620.0)
    run = fit(short, short.behavior["position"], fit_model(short))
    (calibration,) = run.decoder.decoders_["filtered"].calibrations
    message = alarms_of(run, rest)["few_calibration_errors"]
    assert f"about {calibration.effective:.0f} independent errors, and a level of 95 % needs at least 40" in message


def test_activity_unlike_that_of_the_fit_is_reported(parts):
    training, rest = parts
    # With as many latents as by default: with few, every direction of the latents is close to one of the fit.
    model = KalmanSSL(epochs=2, random_state=0, progress=False).fit(training)
    good = fit(training, training.behavior["position"], model, cross_fit(model, training))
    noise = np.random.default_rng(0).poisson(rest.activity.mean(axis=0), rest.activity.shape)
    evaluation = Evaluation.of(good, replace(rest, activity=noise.astype(rest.activity.dtype)))
    message = {alarm.name: alarm.message for alarm in evaluation.alarms}["unusual_activity"]
    trust = evaluation.scores["all"]["trust"]
    assert trust["untrusted"] > 0.06
    assert f"{100 * trust['untrusted']:.1f} % of the bins are not trusted (" in message
    assert f"{100 * max(trust['reasons'].values()):.0f} % because their " in message


def test_coverage_of_a_short_part_is_uncertain(good, parts):
    position = parts[1].behavior["position"]
    half_covered = with_behavior(parts[1], 1.6 * np.clip(position / 1.6, 0, 1) ** 1.5)
    assert "few_scored_blocks" in alarms_of(good, half_covered.restrict(SPLIT, SPLIT + 15))
    assert "few_scored_blocks" not in alarms_of(good, with_behavior(parts[1], 1.6 - position))


def test_a_tracker_that_freezes_is_reported(good, parts):
    rest = parts[1]
    position = rest.behavior["position"].copy()
    first = len(position) // 4
    position[first:] = position[first]
    message = alarms_of(good, with_behavior(rest, position))["frozen_behavior"]
    assert f"75 % of the tracked time in this part, from {rest.time[first]:.7g} to {rest.time[-1]:.7g} s" in message


def test_r2_of_a_frozen_tracker_is_unknown(good, parts):
    evaluation = Evaluation.of(good, with_behavior(parts[1], np.full(len(parts[1]), 0.3)))
    assert np.isnan(evaluation.scores["all"]["r2"])
    assert "frozen_behavior" in {alarm.name for alarm in evaluation.alarms}


def test_a_tracker_that_was_frozen_in_the_fit_is_reported(good, parts):
    run = replace(good, metadata=good.metadata | {"constant_share": 0.7})
    assert "70 % of the tracked time in the fitted part" in alarms_of(run, parts[1])["frozen_behavior"]


@pytest.mark.parametrize("value", [0.3, (0.3, 0.1)])
def test_a_fit_with_a_frozen_tracker_is_refused(parts, value):
    training = parts[0]
    position = np.full((len(training), *np.shape(value)), value)
    position[: len(position) // 50] += 0.1 * np.random.default_rng(0).random((len(position) // 50, *np.shape(value)))
    with pytest.raises(InputError, match="the tracker may be frozen") as error:
        check_decoding(RunSettings(recording="rat.nwb"), with_behavior(training, position), "position")
    assert "98 % of the tracked time" in str(error.value)


def test_alarms_are_saved_with_the_evaluation(good, parts, tmp_path):
    evaluation = Evaluation.of(good, with_behavior(parts[1], 1.6 - parts[1].behavior["position"]))
    evaluation.save(tmp_path / "evaluation")
    loaded = Evaluation.load(tmp_path / "evaluation")
    assert [asdict(alarm) for alarm in loaded.alarms] == [asdict(alarm) for alarm in evaluation.alarms]
    assert alarm_lines(loaded.alarms)[0].startswith("alarm: R² of position is ")


def test_intervals_that_cover_less_than_they_say_have_an_alarm(good, parts):
    scores = copy.deepcopy(good.evaluation.scores)
    main = scores["running"]

    def find():
        found = find_alarms(good, good.evaluation.part, scores, EvaluatedBins.of(good, parts[1]))
        return {alarm.name: alarm.message for alarm in found}

    main["coverage"] |= {"80": 0.71, "95": 0.95}
    main["coverage_error"] |= {"80": 0.01, "95": 0.01}
    assert "narrow_intervals" not in find()  # certainly too narrow, but not by much
    main["coverage"]["80"], main["coverage_error"]["80"] = 0.571, 0.12
    assert "narrow_intervals" not in find()  # within two standard errors of the nominal level
    main["coverage_error"]["80"] = 0.08
    assert "too narrow on moving bins: the 80 % interval contains 57 % of them" in find()["narrow_intervals"]
    main["coverage"] |= {"80": 0.80, "95": 0.85}
    assert "the 95 % interval contains 85 % of them" in find()["narrow_intervals"]


def test_behavior_outside_of_the_range_of_the_fit_has_an_alarm(good, parts):
    rest = parts[1]
    position = rest.behavior["position"]
    far = np.where(np.arange(len(rest)) % 4 == 0, position + 5.0, position)
    message = alarms_of(good, with_behavior(rest, far))["outside_the_fit"]
    assert re.match(r"25 % of the bins have a position outside of -?[\d.]+ cm to .* with a margin; only", message)
    few = np.where(np.arange(len(rest)) % 40 == 0, position + 5.0, position)
    assert "outside_the_fit" not in alarms_of(good, with_behavior(rest, few))

"""Malformed arguments of decoders and of decoded behavior are refused with one line that names the argument."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from decoder_cases import ANGLE, ARMS, LATENTS, MOVEMENT, NETWORKS, TIME, N, decoder, fitted
from estimator_cases import TINY, Odd, counts
from refusals import assert_refused

from kalmanssl import KalmanSSL, PositionDecoder, Recording, cross_fit
from kalmanssl.decoding import CalibrationSettings, HeldOutFit, conditional_coverage, score_decoding

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NAN, INFINITE = float("nan"), float("inf")
QUICK: dict[str, Any] = {"regressor": "linear", "readout_settings": None}
NOT_NUMBERS: dict[str, Any] = {
    "text": "0.9", "none": None, "list": [0.9], "true": True, "complex": 1j, "nan": NAN, "infinite": INFINITE,
    "negative": -0.5, "array": np.array([0.5, 0.6]), "object": Odd(), "dict": {},
}  # fmt: skip
NOT_LEVELS = {**NOT_NUMBERS, "zero": 0.0, "one": 1.0, "percent": 95}
NOT_COUNTS = {**NOT_NUMBERS, "zero": 0, "fraction": 2.5, "huge": 10**30}
NOT_SEEDS = {"text": "0", "negative": -1, "fraction": 1.5, "dict": {}, "true": True, "object": Odd(), "list": ["a"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "level": NOT_LEVELS,
    "regressor": {"none": None, "unknown": "foo", "number": 3, "class": PositionDecoder, "list": ["mlp"], "dict": {}},
    "posterior": {"none": None, "unknown": "foo", "number": 3, "list": ["mean"]},
    "n_samples": NOT_COUNTS,
    "period": {"text": "a", "negative": -1.0, "zero": 0, "nan": NAN, "infinite": INFINITE, "two": (1.0, 2.0),
               "texts": ["a"], "true": True, "dict": {}, "object": Odd(), "complex": 1j, "nested": [[1.0]]},
    "calibrate": {"none": None, "text": "yes", "number": 2, "list": []},
    "readout_settings": {"dict": {}, "text": "x", "of another readout": MOVEMENT},
    "calibration_settings": {"dict": {}, "text": "x", "of another kind": MOVEMENT},
    "movement_settings": {"dict": {}, "text": "x", "of another kind": NETWORKS},
    "drift_settings": {"dict": {}, "true": True},
    "time_scales": {"number": 1.0, "none": None, "text": "ab", "negative": (-1.0,), "nan": (NAN,), "texts": ["a"],
                    "nested": [[1.0]], "infinite": (INFINITE,)},
    "discrete": {"text": "yes", "number": 2, "list": []},
    "random_state": NOT_SEEDS,
}  # fmt: skip
SETTING_CASES = [(name, case) for name, values in SETTINGS.items() for case in values]


@pytest.mark.parametrize(("name", "case"), SETTING_CASES, ids=["-".join(case) for case in SETTING_CASES])
def test_wrong_settings_are_refused(name: str, case: str) -> None:
    settings = {**({} if name in ("time_scales", "posterior") else QUICK), name: SETTINGS[name][case]}
    assert_refused(lambda: decoder(**settings).fit(LATENTS, ANGLE, time=TIME), name)


def _with(values: np.ndarray, row: int, value: Any, dtype: Any = float) -> np.ndarray:
    changed = values.astype(dtype)
    changed[row] = value
    return changed


WRONG_LATENTS: dict[str, Any] = {
    "none": None, "text": "abc", "number": 3.0, "dict": {"a": 1}, "empty list": [], "no bin": LATENTS[:0],
    "no feature": LATENTS[:, :0], "one axis": LATENTS[:, 0], "three axes": LATENTS[None], "texts": LATENTS.astype(str),
    "complex": LATENTS + 1j, "objects": np.array([[Odd()]] * N), "ragged": [[1.0], [1.0, 2.0]] * (N // 2),
    "dates": LATENTS.astype("datetime64[s]"), "sparse": scipy.sparse.csr_matrix(LATENTS), "set": {1.0},
    "text in a table": pd.DataFrame({"a": ["x"] * N}), "generator": (row for row in LATENTS),
    "records": np.zeros(N, dtype=[("a", float)]), "no axis": np.array(1.0), "strings of bytes": LATENTS.astype("S8"),
}  # fmt: skip


@pytest.mark.parametrize("latents", WRONG_LATENTS.values(), ids=WRONG_LATENTS)
def test_wrong_latents_are_refused(latents: Any, line: PositionDecoder) -> None:
    assert_refused(lambda: decoder(**QUICK).fit(latents, ANGLE, time=TIME), "latents")
    assert_refused(lambda: line.predict(latents), "latents")
    assert_refused(lambda: line.update(latents, ANGLE), "latents")
    assert_refused(lambda: line.score(latents, ANGLE), "latents")


@pytest.fixture(scope="module")
def line() -> PositionDecoder:
    return fitted("line")


@pytest.fixture(scope="module")
def labels() -> PositionDecoder:
    return fitted("labels")


WRONG_POSITIONS: dict[str, Any] = {
    "none": None, "number": 3.0, "text": "position", "short": ANGLE[:-1], "long": np.append(ANGLE, 0.0), "dict": {},
    "three axes": np.zeros((N, 1, 1)), "no dimension": np.zeros((N, 0)), "complex": ANGLE + 1j, "empty": [],
    "objects": np.array([Odd()] * N), "dicts": np.array([{}] * N), "ragged": [[1.0], [1.0, 2.0]] * (N // 2),
    "dates": ANGLE.astype("datetime64[s]"), "generator": (a for a in ANGLE), "no axis": np.array(1.0),
    "records": np.zeros(N, dtype=[("a", float)]), "set": {1.0, 2.0},
    "infinite": _with(ANGLE, 3, INFINITE), "too large": ANGLE * 1e300,
    "labels of two columns": np.stack([ARMS, ARMS], 1),
    "mixed labels": np.array([1, "a"] * (N // 2), dtype=object),
}  # fmt: skip
NOT_FITTED: dict[str, Any] = {
    "unknown": np.full(N, NAN), "constant": np.zeros(N), "nine known bins": np.where(np.arange(N) < 9, ANGLE, NAN),
    "one label": np.array(["a"] * N), "no label": np.array([None] * N, dtype=object), "empty texts": np.array([""] * N),
    "one constant dimension": np.stack([ANGLE, 0 * ANGLE], axis=1),
    "one known value": np.where(np.arange(N) == 5, 1.0, NAN), "masked everywhere": np.ma.masked_all(N),
}  # fmt: skip


@pytest.mark.parametrize("position", WRONG_POSITIONS.values(), ids=WRONG_POSITIONS)
def test_wrong_positions_are_refused(position: Any, line: PositionDecoder) -> None:
    assert_refused(lambda: decoder(**QUICK).fit(LATENTS, position, time=TIME), "position")
    assert_refused(lambda: line.update(LATENTS, position, TIME + 100), "position")
    assert_refused(lambda: line.score(LATENTS, position), "position|truth")
    assert_refused(lambda: score_decoding(line.predict(LATENTS), position), "truth")


@pytest.mark.parametrize("position", NOT_FITTED.values(), ids=NOT_FITTED)
def test_positions_that_have_nothing_to_decode_are_refused(position: Any) -> None:
    assert_refused(lambda: decoder(**QUICK).fit(LATENTS, position, time=TIME), "position")


WRONG_TIMES: dict[str, Any] = {
    "text": "now", "texts": ["now"] * N, "number": 3.0, "short": TIME[:-1], "two axes": TIME[:, None], "empty": [],
    "nan": _with(TIME, 3, NAN), "infinite": _with(TIME, 3, INFINITE), "decreasing": TIME[::-1], "equal": np.zeros(N),
    "complex": TIME + 0j, "repeated": np.repeat(TIME[::2], 2), "bools": TIME > 1, "dict": {}, "objects": [Odd()] * N,
}  # fmt: skip


@pytest.mark.parametrize("time", WRONG_TIMES.values(), ids=WRONG_TIMES)
def test_wrong_times_are_refused(time: Any, line: PositionDecoder) -> None:
    assert_refused(lambda: decoder(**QUICK).fit(LATENTS, ANGLE, time=time), "time")
    assert_refused(lambda: line.predict(LATENTS, time), "time")
    assert_refused(lambda: line.update(LATENTS, ANGLE, time), "time")


WRONG_MASKS: dict[str, Any] = {
    "text": "all", "numbers": np.ones(N), "integers": np.arange(N), "short": np.ones(N - 1, bool), "true": True,
    "two axes": np.ones((N, 1), bool), "nowhere": np.zeros(N, bool), "texts": ["yes"] * N, "dict": {}, "empty": [],
    "ragged": [[True], [True, False]] * (N // 2),
}  # fmt: skip


@pytest.mark.parametrize("mask", WRONG_MASKS.values(), ids=WRONG_MASKS)
def test_wrong_masks_are_refused(mask: Any, line: PositionDecoder) -> None:
    assert_refused(lambda: decoder(**QUICK).fit(LATENTS, ANGLE, mask, TIME), "where")
    decoded = line.predict(LATENTS)
    assert_refused(lambda: score_decoding(decoded, ANGLE, mask), "mask")
    assert_refused(lambda: conditional_coverage(decoded, ANGLE, {"speed": ANGLE}, mask), "mask")


@pytest.mark.parametrize("features", [1, 2, 4])
def test_latents_of_another_model_are_refused(features: int, line: PositionDecoder) -> None:
    other = np.zeros((N, features))
    for call in (lambda: line.predict(other), lambda: line.update(other, ANGLE), lambda: line.score(other, ANGLE)):
        assert_refused(call, "latents")


@pytest.mark.parametrize("level", NOT_LEVELS.values(), ids=NOT_LEVELS)
def test_wrong_levels_of_results_are_refused(level: Any, line: PositionDecoder, labels: PositionDecoder) -> None:
    decoded, categories = line.predict(LATENTS[:5]), labels.predict(LATENTS[:5])
    assert_refused(lambda: decoded.interval(level), "level")
    assert_refused(lambda: decoded.quantile(level), "q")
    if level is not None:  # the level of the decoder
        assert_refused(lambda: decoded.region(level), "level")
        assert_refused(lambda: categories.region(level), "level")


@pytest.mark.parametrize("n", NOT_COUNTS.values(), ids=NOT_COUNTS)
def test_wrong_numbers_of_samples_are_refused(n: Any, line: PositionDecoder, labels: PositionDecoder) -> None:
    for one in (line, labels):
        assert_refused(lambda o=one: o.predict(LATENTS[:5]).sample(n), "n ")


@pytest.mark.parametrize("seed", NOT_SEEDS.values(), ids=NOT_SEEDS)
def test_wrong_seeds_of_samples_are_refused(seed: Any, line: PositionDecoder, labels: PositionDecoder) -> None:
    for one in (line, labels):
        assert_refused(lambda o=one: o.predict(LATENTS[:5]).sample(2, seed), "random_state")


@pytest.mark.parametrize("n", [10**9, 10**12, 10**18])
def test_more_samples_than_fit_into_memory_are_refused(n: int, line: PositionDecoder, labels: PositionDecoder) -> None:
    for one in (line, labels):
        assert_refused(lambda o=one: o.predict(LATENTS).sample(n), "n")


@pytest.mark.parametrize("truth", [None, "x", 3.0, ANGLE[:-1], np.zeros((N, 2)), ANGLE + 1j, ["a"] * N, {}], ids=repr)
def test_truths_of_another_shape_or_type_are_refused(truth: Any, line: PositionDecoder) -> None:
    decoded = line.predict(LATENTS)
    for call in (decoded.error, decoded.crps, decoded.pit):
        assert_refused(lambda c=call: c(truth), "truth")
    assert_refused(lambda: conditional_coverage(decoded, truth, {"speed": ANGLE}), "truth")


def test_truths_that_are_never_known_are_refused(line: PositionDecoder, labels: PositionDecoder) -> None:
    assert_refused(lambda: score_decoding(line.predict(LATENTS), np.full(N, NAN)), "truth")
    assert_refused(lambda: score_decoding(labels.predict(LATENTS), np.array([""] * N)), "truth")
    assert_refused(lambda: score_decoding(labels.predict(LATENTS), np.array(["elsewhere"] * N)), "truth")
    assert_refused(lambda: score_decoding(labels.predict(LATENTS), ANGLE), "truth")
    assert_refused(lambda: score_decoding(labels.predict(LATENTS), ARMS[:-1]), "truth")


@pytest.mark.parametrize("decoded", [None, "x", 3, {}, ANGLE, np.zeros((N, 2)), Odd()], ids=lambda d: type(d).__name__)
def test_what_is_no_decoded_behavior_is_refused(decoded: Any) -> None:
    assert_refused(lambda: score_decoding(decoded, ANGLE), "decoded")
    assert_refused(lambda: conditional_coverage(decoded, ANGLE, {}), "decoded")


CONDITIONS: dict[str, Any] = {
    "none": None, "list": [1.0], "text": "speed", "short": {"speed": ANGLE[:-1]}, "texts of numbers": {"speed": "abc"},
    "complex": {"speed": ANGLE + 1j}, "two axes": {"speed": ANGLE[:, None]},
    "objects": {"speed": np.array([Odd()] * N)},
}  # fmt: skip


@pytest.mark.parametrize("conditions", CONDITIONS.values(), ids=CONDITIONS)
def test_wrong_conditions_are_refused(conditions: Any, line: PositionDecoder) -> None:
    assert_refused(
        lambda: conditional_coverage(line.predict(LATENTS), ANGLE, conditions), "condition|labels of the type"
    )


LATER_LABELS: dict[str, Any] = {
    "numbers": ANGLE, "unknown": np.array(["elsewhere"] * N), "short": ARMS[:-1], "bools": ANGLE > 1, "none": None,
    "two columns": np.stack([ARMS, ARMS], axis=1), "text": "left", "bytes": ARMS.astype(bytes),
}  # fmt: skip


@pytest.mark.parametrize("position", LATER_LABELS.values(), ids=LATER_LABELS)
def test_labels_of_another_kind_are_refused(position: Any, labels: PositionDecoder, line: PositionDecoder) -> None:
    assert_refused(lambda: labels.update(LATENTS, position, TIME + 100), "position")
    assert_refused(lambda: labels.score(LATENTS, position), "position|truth")


def test_labels_and_numbers_are_not_mixed(line: PositionDecoder) -> None:
    assert_refused(lambda: line.update(LATENTS, ARMS, TIME + 100), "position")
    assert_refused(lambda: decoder(discrete=False).fit(LATENTS, ARMS), "discrete")
    assert_refused(lambda: decoder(period=6.3).fit(LATENTS, ARMS), "period")
    assert_refused(lambda: decoder(**QUICK).fit(LATENTS, ARMS), "regressor")


def test_labels_with_gaps_are_decoded() -> None:
    partly = np.where(np.arange(N) % 3 == 0, None, ARMS.astype(object))
    made = decoder(calibrate=False).fit(LATENTS, partly, time=TIME)
    assert made.labels_.tolist() == ["left", "right", "stem"]
    decoded = made.predict(LATENTS, TIME)
    np.testing.assert_allclose(decoded.mass.sum(axis=1), 1, rtol=1e-5)
    assert score_decoding(decoded, partly)["bins"] == (partly != None).sum()  # noqa: E711


def test_one_visited_cell_beside_another_is_decoded() -> None:
    position = np.where(np.arange(N) % 50 == 0, 1.0, 0.0)
    decoded = decoder().fit(LATENTS, position, time=TIME).predict(LATENTS, TIME)
    assert np.isfinite(decoded.interval(0.9)).all()


def test_masked_and_missing_values_are_unknown() -> None:
    unknown = np.arange(N) % 4 == 0
    with_nan = decoder(**QUICK).fit(LATENTS, np.where(unknown, NAN, ANGLE), time=TIME).predict(LATENTS, TIME)
    masked = decoder(**QUICK).fit(LATENTS, np.ma.masked_array(ANGLE, unknown), time=TIME).predict(LATENTS, TIME)
    np.testing.assert_array_equal(with_nan.table, masked.table)
    table = pd.Series(ANGLE).astype("Float64")
    table[unknown] = pd.NA
    np.testing.assert_array_equal(
        with_nan.table, decoder(**QUICK).fit(LATENTS, table, time=TIME).predict(LATENTS, TIME).table
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, object, ">f8", list])
def test_other_types_of_numbers_give_the_same_result(dtype: Any) -> None:
    def convert(values: np.ndarray) -> Any:
        return values.tolist() if dtype is list else values.astype(dtype)

    rounded = [
        values if dtype in (object, ">f8", list) else values.astype(dtype).astype(float) for values in (LATENTS, ANGLE)
    ]
    expected = decoder(**QUICK).fit(*rounded, time=TIME).predict(rounded[0], TIME)
    found = decoder(**QUICK).fit(convert(LATENTS), convert(ANGLE), time=TIME).predict(convert(LATENTS), TIME)
    np.testing.assert_array_equal(found.table, expected.table)


def test_positions_that_leave_a_circle_are_wrapped_into_it() -> None:
    inside = decoder(**QUICK, period=2 * np.pi).fit(LATENTS, ANGLE, time=TIME).predict(LATENTS, TIME)
    outside = decoder(**QUICK, period=2 * np.pi).fit(LATENTS, ANGLE + 20 * np.pi, time=TIME).predict(LATENTS, TIME)
    np.testing.assert_allclose(outside.mean, inside.mean, atol=1e-6)


SHARES: dict[str, Any] = {
    "text": "ab", "none": None, "number": 0.5, "one": (1.0,), "zero": (0,), "nan": (NAN,), "texts": ["a"], "dict": {},
    "nested": [[0.5]], "true": (True,), "empty": (), "array of axes": np.full((2, 2), 0.5),
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> KalmanSSL:
    return KalmanSSL(**TINY).fit(counts())


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
def test_wrong_shares_of_cross_fits_are_refused(shares: Any, model: KalmanSSL) -> None:
    assert_refused(lambda: cross_fit(model, counts(), shares), "shares")


def test_shares_that_leave_nothing_to_fit_on_are_refused(model: KalmanSSL) -> None:
    recording = Recording.from_arrays(counts(), time=0.025 * np.arange(200))
    for share in (1e-300, 1e-9, 1e-3):
        assert_refused(lambda s=share: cross_fit(model, recording, (s,)), "shares")


@pytest.mark.parametrize("given", [None, "x", 3, {}, KalmanSSL, Odd()], ids=lambda g: type(g).__name__)
def test_wrong_models_are_refused(given: Any, line: PositionDecoder) -> None:
    assert_refused(lambda: cross_fit(given, counts()), "model")
    assert_refused(lambda: line.online(given), "model")


@pytest.mark.parametrize("recording", [None, "x", 3, {}, counts()[:3], np.zeros(5), []], ids=lambda r: type(r).__name__)
def test_wrong_recordings_of_cross_fits_are_refused(recording: Any, model: KalmanSSL) -> None:
    assert_refused(lambda: cross_fit(model, recording))


def test_models_with_other_latents_are_refused_online(line: PositionDecoder) -> None:
    other = KalmanSSL(**{**TINY, "state_dim": 4}).fit(counts())
    assert_refused(lambda: line.online(other), "model has 4 latents")


ONLINE: dict[str, Any] = {
    "text": "x", "short": np.zeros(5), "two axes": np.zeros((1, 6)), "complex": np.zeros(6) + 1j, "number": 3.0,
    "texts": ["a"] * 6, "infinite": np.full(6, INFINITE), "dict": {}, "objects": [Odd()] * 6,
}  # fmt: skip


@pytest.mark.parametrize("activity", ONLINE.values(), ids=ONLINE)
def test_wrong_activity_is_refused_online_and_leaves_the_state(
    activity: Any, line: PositionDecoder, model: KalmanSSL
) -> None:
    online = line.online(model)
    online.step(counts()[0], 0.0)
    before = online.state_dict()
    assert_refused(lambda: online.step(activity, 0.1), "activity")
    for time in (NAN, "now", -1.0, 0.0, True, [1.0]):
        assert_refused(lambda t=time: online.step(counts()[1], t), "time")
    for name, value in online.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


HELD_OUT: dict[str, Any] = {
    "text": "x",
    "number": 3,
    "texts": ["a"],
    "latents": [LATENTS],
    "dict": {"a": 1},
    "true": True,
}


@pytest.mark.parametrize("fits", HELD_OUT.values(), ids=HELD_OUT)
def test_wrong_held_out_fits_are_refused(fits: Any, model: KalmanSSL) -> None:
    latents = model.transform(counts())
    position = np.linspace(0, 1, len(latents))
    assert_refused(lambda: decoder(**QUICK).fit(latents, position, held_out_fits=fits), "held_out_fits")
    assert_refused(lambda: decoder(**QUICK).fit(LATENTS, ANGLE, held_out_fits=fits), "held_out_fits")


def test_held_out_fits_of_other_bins_or_latents_are_refused(model: KalmanSSL) -> None:
    latents = model.transform(counts())
    position = np.linspace(0, 1, len(latents))
    shorter, narrower = latents[:100], replace(latents, mean=latents.mean[:, :2])
    for wrong in (shorter, narrower):
        fit = HeldOutFit(wrong, wrong, (0.0, 50.0))
        assert_refused(lambda f=fit: decoder(**QUICK).fit(latents, position, held_out_fits=[f]), "held_out_fits")


@pytest.mark.parametrize("smoothed", ["x", 3, LATENTS, [LATENTS], {}], ids=lambda s: type(s).__name__)
def test_wrong_smoothed_latents_are_refused(smoothed: Any, model: KalmanSSL) -> None:
    latents = model.transform(counts())
    position = np.linspace(0, 1, len(latents))
    assert_refused(lambda: decoder(**QUICK).fit(latents, position, smoothed=smoothed), "smoothed")


CALIBRATION: dict[str, dict[str, Any]] = dict.fromkeys(
    ("min_blocks", "n_folds", "max_bins", "min_blocks_per_map"), NOT_COUNTS
) | {
    "first_fold_fraction": {**NOT_NUMBERS, "one": 1.0},
    "noise_grid": {"text": "ab", "empty": (), "number": 1.0, "nan": (NAN,), "none": None, "texts": ["a"]},
    "refinement_grid": {"text": "ab", "empty": (), "zero": (0.0,), "none": None},
    "min_standard_errors": {"text": "a", "nan": NAN, "negative": -1.0, "none": None, "list": [1.0]},
}
CALIBRATION_CASES = [(name, case) for name, values in CALIBRATION.items() for case in values]


@pytest.mark.parametrize(("name", "case"), CALIBRATION_CASES, ids=["-".join(case) for case in CALIBRATION_CASES])
def test_wrong_settings_of_the_calibration_are_refused(name: str, case: str) -> None:
    assert_refused(lambda: CalibrationSettings(**{name: CALIBRATION[name][case]}), name)


def test_predictions_before_the_fit_are_refused() -> None:
    with warnings.catch_warnings(), pytest.raises(Exception, match="not fitted"):
        PositionDecoder().predict(LATENTS)

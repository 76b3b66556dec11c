"""Malformed arguments of `KalmanSSL` are refused with one line that names the argument."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from estimator_cases import (
    NOT_NUMBERS,
    TINY,
    Linear,
    counts,
    wrong_behavior,
    wrong_data,
    wrong_encoders,
    wrong_parameters,
)
from refusals import assert_refused
from sklearn.base import clone

from kalmanssl import KalmanSSL, Recording, recipes
from kalmanssl.utils import memory

X = counts()
PARAMETERS, DATA, BEHAVIOR, ENCODERS = wrong_parameters(), wrong_data(), wrong_behavior(), wrong_encoders()


def model(**settings: Any) -> KalmanSSL:
    return KalmanSSL(**{**TINY, **settings})


@pytest.fixture(scope="module")
def fitted() -> KalmanSSL:
    return model().fit(X)


def recording(name: str = "", units: int = 6, bins: int = 200, width: float = 0.025, seed: int = 0) -> Recording:
    ids = [f"{name}{i}" for i in range(units)]
    values = counts(units, bins, seed)
    return Recording.from_arrays(values, time=width * np.arange(bins), unit_ids=ids, session=name)


@pytest.mark.parametrize("case", PARAMETERS)
def test_wrong_parameter_is_named(case):
    parameter = case.partition("-")[0]
    line = assert_refused(lambda: model(**PARAMETERS[case]).fit(X), parameter)
    assert "\n" not in line


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_fitted_are_refused(case):
    assert_refused(lambda: model().fit(DATA[case]))


@pytest.mark.parametrize("normalize", ["cosine", "sqrt", "standardize", "none"])
@pytest.mark.parametrize("values", [X * 0, X * 0 + 3, X * 1e200], ids=["zeros", "constant", "too-large"])
def test_data_without_variance_or_too_large_are_refused_with_every_normalization(normalize, values):
    assert_refused(lambda: model(normalize=normalize).fit(values), "X|normalize")


ACCEPTED_DATA = {
    "bool": X > 2, "int8": X.astype(np.int8), "half": X.astype(np.float16), "list": X.tolist(),
    "object": X.astype(object), "torch": torch.from_numpy(X), "columns-first": np.asfortranarray(X),
    "reversed-memory": X[::-1].copy()[::-1], "big-endian": X.astype(">f8"), "long-double": X.astype(np.longdouble),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCEPTED_DATA)
def test_data_of_every_numeric_type_give_the_same_latents(case, fitted):
    values = ACCEPTED_DATA[case]
    found = model().fit(values).transform(values).mean
    expected = (model().fit((X > 2).astype(float)).transform((X > 2).astype(float)) if case == "bool" else
                fitted.transform(X)).mean  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("case", BEHAVIOR)
def test_behavior_that_cannot_be_used_is_refused(case):
    assert_refused(lambda: model(behavior_weight=1.0).fit(X, BEHAVIOR[case]), "y")


@pytest.mark.parametrize("case", ENCODERS)
def test_encoder_that_cannot_be_used_is_refused(case):
    assert_refused(lambda: model(encoder=ENCODERS[case]).fit(X), "encoder|latents have collapsed")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_encoder_of_any_precision_is_trained_in_single_precision(dtype):
    encoder = Linear(dtype)
    expected = model(encoder=copy.deepcopy(encoder).float()).fit(X)
    found = model(encoder=encoder).fit(X)
    assert {p.dtype for p in found.model_.parameters()} == {torch.float32}
    assert encoder.linear.weight.dtype == dtype
    np.testing.assert_array_equal(found.transform(X).mean, expected.transform(X).mean)


VIEWS = {
    "short": X[:10], "text": "position", "nan": DATA["nan"], "int": 3, "dict": {}, "ragged": [[1], [1, 2]] * 100,
    "three-axes": X[None], "empty": [], "list": [X], "constant": X * 0 + 1,
}  # fmt: skip


@pytest.mark.parametrize("case", VIEWS)
def test_second_view_that_cannot_be_used_is_refused(case):
    assert_refused(lambda: model().fit(X, view=VIEWS[case]), "view")


# Memory.


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        ({"latent_dim": 10_000, "state_dim": 10_000}, "state_dim"),
        ({"state_dim": 10**9}, "state_dim"),
        ({"latent_dim": 10**12, "state_dim": 10**12}, "state_dim"),
        ({"hidden": (10**6, 10**6)}, "hidden"),
        ({"encoder_window": 10**9}, "encoder_window"),
        ({"batch_size": 10**9}, "batch_size"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_fit_that_needs_more_memory_than_there_is_says_how_much(settings, parameter, monkeypatch):
    monkeypatch.setattr(memory, "_free_memory", lambda: 8e9)
    line = assert_refused(lambda: model(**settings).fit(X), parameter)
    assert re.search(r"would take about \S+ GB of memory, and 8 GB are available", line)


def test_free_memory_is_found_and_limited_by_the_address_space(monkeypatch):
    assert 1e7 < memory.available_memory() < 1e15
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**6, 10**6))
    assert memory.available_memory() == 0
    monkeypatch.setattr(memory, "_CGROUP", memory.Path("/nonexistent"))
    assert memory._left_in_control_group() == float("inf")


# Seeds.


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState], ids=["Generator", "RandomState"])
def test_random_generators_are_seeds_that_clones_copy(make):
    first, copy = model(random_state=make(3)), clone(model(random_state=make(3)))
    expected = first.fit(X).transform(X).mean
    np.testing.assert_array_equal(copy.fit(X).transform(X).mean, expected)
    assert (first.fit(X).transform(X).mean != expected).any()  # the next draw of the same generator


@pytest.mark.parametrize("seed", [0, np.int64(3), np.uint8(3), 2**32 - 1, None], ids=repr)
def test_seeds_of_every_integer_type_are_accepted(seed):
    assert model(random_state=seed).fit(X).model_ is not None


# Use of a fitted model.

LATER = {
    name: DATA[name]
    for name in ("none", "int", "text", "dict", "empty-list", "ragged", "texts", "nan", "infinite", "one-axis",
                 "three-axes", "no-bin", "object-with-text", "too-large", "too-large-single", "masked", "complex",
                 "trials-of-other-units", "list-with-none", "sparse")
} | {"fewer-units": X[:, :3], "more-units": np.hstack([X, X]), "negative": -X - 1}  # fmt: skip


@pytest.mark.parametrize("method", ["transform", "score", "encoder_input"])
@pytest.mark.parametrize("case", LATER)
def test_later_data_that_cannot_be_used_are_refused(case, method, fitted):
    if case == "negative" and method == "encoder_input":
        pytest.skip("the input of the encoder may be negative")
    assert_refused(lambda: getattr(fitted, method)(LATER[case]))


@pytest.mark.parametrize("value", ["yes", 2, None, np.ones(2)], ids=["text", "int", "none", "array"])
def test_flags_are_true_or_false(value, fitted, tmp_path):
    assert_refused(lambda: fitted.transform(X, smooth=value), "smooth must be True or False")
    assert_refused(lambda: model(checkpoint_dir=tmp_path).fit(X, resume=value), "resume must be True or False")


def test_other_units_and_other_bins_are_refused():
    own = model().fit(recording("a"))
    assert_refused(lambda: own.transform(recording("b")), "other units")
    assert_refused(lambda: own.transform(recording("a", width=0.05)), "bins of")


FORECASTS = {
    "nothing": {}, "both": {"steps": 1, "horizon": 1.0}, "bool": {"steps": True}, "text": {"steps": "3"},
    "negative": {"steps": -1}, "fraction": {"steps": 1.5}, "large": {"steps": 10**12}, "huge": {"steps": 10**30},
    "horizon-of-array": {"horizon": 1.0}, "at-text": {"steps": 1, "at": "a"}, "at-nan": {"steps": 1, "at": np.nan},
    "at-outside": {"steps": 1, "at": 1e9}, "at-empty": {"steps": 1, "at": []}, "at-matrix": {"steps": 1, "at": [[1.0]]},
    "at-ragged": {"steps": 1, "at": [[1.0], [1, 2]]}, "at-dict": {"steps": 1, "at": {}},
}  # fmt: skip


@pytest.mark.parametrize("case", FORECASTS)
def test_wrong_arguments_of_forecasts_are_refused(case, fitted):
    assert_refused(lambda: fitted.forecast(fitted.transform(X), **FORECASTS[case]), "steps|horizon|at")


@pytest.mark.parametrize("case", ["array", "none", "smoothed", "list", "other-state"])
def test_forecasts_start_from_filtered_latents_of_the_model(case, fitted):
    latents = fitted.transform(X)
    given = {
        "array": X, "none": None, "smoothed": fitted.transform(X, smooth=True), "list": [latents],
        "other-state": replace(latents, mean=latents.mean[:, :2]),
    }[case]  # fmt: skip
    assert_refused(lambda: fitted.forecast(given, steps=1), "latents")


@pytest.mark.parametrize("value", ["a", np.nan, 0, 1, None, [0.9], True], ids=repr)
def test_wrong_levels_of_forecasts_are_refused(value, fitted):
    ahead = fitted.forecast(fitted.transform(X[:20]), steps=2)
    assert_refused(lambda: ahead.interval(value), "level")


@pytest.mark.parametrize(
    "options",
    [
        {"n_samples": 0}, {"n_samples": "a"}, {"n_samples": 10**12}, {"n_samples": 1, "random_state": "a"},
        {"n_samples": 1, "random_state": -1}, {"n_samples": 1, "observed": "maybe"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_arguments_of_samples_are_refused(options, fitted):
    ahead = fitted.forecast(fitted.transform(X[:20]), steps=2)
    assert_refused(lambda: ahead.sample(**options), "n_samples|random_state|observed")


BINS = {
    "short": X[0, :3], "text": "abc", "matrix": X[:1], "infinite": np.full(6, np.inf), "negative": -np.ones(6),
    "too-large": np.full(6, 1e300), "objects": np.array([None] * 6), "int": 3, "dict": {}, "complex": np.ones(6) * 1j,
    "ragged": [[1], [1, 2]], "texts": ["1"] * 6,
}  # fmt: skip


@pytest.mark.parametrize("case", BINS)
def test_online_bins_that_cannot_be_used_leave_the_state_unchanged(case, fitted):
    online = fitted.online()
    online.step(X[0])
    before = online.state_dict()
    assert_refused(lambda: online.step(BINS[case]), "activity")
    for name, value in online.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("value", ["a", np.nan, np.inf, True, [1.0], np.array([1.0]), -1.0], ids=repr)
def test_online_times_that_cannot_be_used_are_refused(value, fitted):
    online = fitted.online()
    online.step(X[0], 0.0)
    assert_refused(lambda: online.step(X[1], value), "time")


@pytest.mark.parametrize("value", [True, 0, -1, "a", 1.5], ids=repr)
def test_wrong_memory_of_online_encoders_is_refused(value, fitted):
    assert_refused(lambda: fitted.online(value), "encoder_memory")


STATES: dict[str, dict[str, Any]] = {
    "missing": {"bins": None}, "unknown": {"x": 1}, "shape": {"bins": np.zeros(3)}, "text": {"bins": "a"},
    "fingerprint": {"fingerprint": 3}, "fingerprint-nan": {"fingerprint": np.nan}, "negative-count": {"n_bins": -5},
    "large-count": {"n_complete": 10**9}, "fraction": {"n_bins": 1.7}, "negative-time": {"n_since_origin": -4},
    "infinite-time": {"origin": np.inf}, "nan-bins": {"bins": np.full((2, 6), np.nan)},
    "complex": {"bins": np.ones((2, 6)) * 1j}, "nan-mean": {"filter.mean": np.full((2, 3), np.nan)},
    "nan-cov": {"filter.cov": np.full((2, 3, 3), np.nan)}, "memory": {"encoder.n_recent": [99, 99]},
    "observed": {"filter.n_observed": [-7, -7]},
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_damaged_states_of_online_filters_are_refused(case, fitted):
    online = fitted.online()
    for values in X[:3]:
        online.step(values)
    state = {**online.state_dict(), **STATES[case]}
    state = {name: value for name, value in state.items() if value is not None}
    assert_refused(lambda: fitted.online().load_state_dict(state), "state")


@pytest.mark.parametrize("state", [None, [], 3, "x"], ids=repr)
def test_states_of_another_type_are_refused(state, fitted):
    assert_refused(lambda: fitted.online().load_state_dict(state), "state")


# Sessions.

SESSIONS = {
    "same-session": (recording("a"), recording("a")), "no-name": (recording(), recording("a")),
    "array": (X, recording("a")), "fitted-is-other": (recording("b"), recording("b")),
    "fitted-is-array": (recording("b"), X), "none": (None, recording("a")), "fitted-is-none": (recording("b"), None),
    "other-bins": (recording("b", width=0.05), recording("a")), "short": (recording("b", bins=4), recording("a")),
    "two-sessions": ([recording("b"), recording("c")], recording("a")), "text": ("b", recording("a")),
    "empty": ([], recording("a")), "fitted-is-empty": (recording("b"), []),
    "fitted-has-other-units": (recording("b"), recording("a", units=4)), "dict": ({}, recording("a")),
    "fitted-is-short": (recording("b"), recording("a", bins=3)),
}  # fmt: skip


@pytest.fixture(scope="module")
def of_session() -> KalmanSSL:
    return model().fit(recording("a"))


@pytest.mark.parametrize("case", SESSIONS)
def test_sessions_that_cannot_be_aligned_are_refused(case, of_session):
    X, fitted = SESSIONS[case]
    assert_refused(lambda: of_session.align_session(X, fitted))


@pytest.mark.parametrize("name", ["zz", 3, [], None], ids=repr)
def test_unknown_sessions_are_refused(name, of_session):
    assert_refused(lambda: of_session.session(name), "sessions")


@pytest.mark.parametrize(
    ("settings", "second", "options"),
    [
        ({}, recording("b"), {"view": X}),
        ({}, recording("b", width=0.05), {}),
        ({}, recording(), {}),
        ({"encoder": Linear()}, recording("b"), {}),
        ({"noise": "input"}, recording("b"), {}),
    ],
    ids=["view", "other-bins", "no-name", "encoder", "noise"],
)
def test_several_sessions_that_cannot_be_fitted_together_are_refused(settings, second, options):
    assert_refused(lambda: model(**settings).fit([recording("a"), second], **options))


# Recipes.


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_wrong_settings_of_recipes_are_refused(name):
    import inspect

    for parameter in inspect.signature(recipes.RECIPES[name]).parameters:
        is_flag = parameter in ("mutual_information", "reference_bugs")
        for case, value in NOT_NUMBERS.items():
            if (is_flag and case == "true") or (parameter == "final" and case == "none"):
                continue
            assert_refused(lambda p=parameter, v=value: recipes.make_recipe(name, **{p: v}), parameter)


@pytest.mark.parametrize("name", [3, None, "unknown", [], "x" * 10_000], ids=lambda name: repr(name)[:12])
def test_unknown_recipes_are_refused(name):
    assert_refused(lambda: recipes.make_recipe(name), "recipe")


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 3}, {"hidden": None}, {"hidden": "ab"}, {"momentum": "a"}, {"latent_model": "x"}, {"entropy": "x"},
        {"prior": "x"}, {"weight_decay": "a"}, {"batch_norm": "a"}, {"predictor": 0}, {"dim": True},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_changes_of_recipes_are_refused(change):
    backbone = torch.nn.Linear(3, 3)
    assert_refused(lambda: replace(recipes.simclr(dim=4), **change).build(backbone, 3), next(iter(change)))


@pytest.mark.parametrize(
    "options",
    [{"backbone": None}, {"backbone": len}, {"n_features": "a"}, {"random_state": "a"}, {"random_state": -1}],
    ids=str,
)
def test_wrong_arguments_of_the_construction_of_recipes_are_refused(options):
    given = {"backbone": torch.nn.Linear(3, 3), "n_features": 3, **options}
    assert_refused(lambda: recipes.simclr(dim=4).build(**given), next(iter(options)))

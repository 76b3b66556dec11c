"""Cross-validation over blocks of time."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score

from kalmanssl import BlockedTimeSeriesSplit, Recording
from kalmanssl.errors import InputError


def folds(splitter: BlockedTimeSeriesSplit, X, groups=None):
    return list(splitter.split(X, groups=groups))


@pytest.mark.parametrize(("n_bins", "n_splits"), [(100, 5), (103, 4), (10, 5)])
def test_test_blocks_are_contiguous_and_cover_all_bins_once(n_bins, n_splits):
    found = folds(BlockedTimeSeriesSplit(n_splits), np.zeros((n_bins, 1)))
    assert len(found) == n_splits
    np.testing.assert_array_equal(np.concatenate([test for _, test in found]), np.arange(n_bins))
    for train, test in found:
        assert (np.diff(test) == 1).all()
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(n_bins))


@pytest.mark.parametrize(("purge", "embargo", "after"), [(3, None, 3), (3, 0, 0), (0, 7, 7), (2.2, None, 2)])
def test_purge_and_embargo_are_bins_before_and_after_the_test_block(purge, embargo, after):
    found = folds(BlockedTimeSeriesSplit(4, purge=purge, embargo=embargo), np.zeros((100, 1)))
    train, test = found[1]
    np.testing.assert_array_equal(test, np.arange(25, 50))
    np.testing.assert_array_equal(train, [*range(25 - int(purge)), *range(50 + after, 100)])


def test_groups_are_never_divided():
    rng = np.random.default_rng(0)
    laps = np.repeat(np.arange(12), rng.integers(3, 40, size=12))
    for train, test in folds(BlockedTimeSeriesSplit(4), np.zeros((len(laps), 1)), laps):
        assert not set(laps[train]) & set(laps[test])
    names = np.repeat(["a", "long", "b"], [2, 96, 2])
    tests = [test for _, test in folds(BlockedTimeSeriesSplit(3), np.zeros((100, 1)), names)]
    assert [len(test) for test in tests] == [2, 96, 2]


def test_blocks_begin_at_gaps_that_are_near_and_gaps_count_as_time():
    time = 0.1 * np.arange(100)
    time[55:] += 1.0
    recording = Recording.from_arrays(np.ones((100, 2)), time=time)
    (train, test), _ = folds(BlockedTimeSeriesSplit(2, purge=5), recording)
    np.testing.assert_array_equal(test, np.arange(55))
    np.testing.assert_array_equal(train, np.arange(55, 100))  # the gap of 10 bins is longer than the purge
    (train, _), _ = folds(BlockedTimeSeriesSplit(2, purge=15), recording)
    np.testing.assert_array_equal(train, np.arange(60, 100))


def test_time_series_of_pynapple_have_gaps():
    pynapple = pytest.importorskip("pynapple")
    time = 0.1 * np.arange(100)
    time[55:] += 1.0
    frame = pynapple.TsdFrame(t=time, d=np.random.default_rng(0).normal(size=(100, 2)))
    (_, test), _ = folds(BlockedTimeSeriesSplit(2), frame)
    np.testing.assert_array_equal(test, np.arange(55))
    target = frame.values[:, 0]
    assert min(cross_val_score(Ridge(), frame, target, cv=BlockedTimeSeriesSplit(3))) > 0.9


def test_a_grid_search_uses_groups():
    rng = np.random.default_rng(0)
    X, laps = rng.normal(size=(60, 2)), np.repeat(np.arange(6), 10)
    search = GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=BlockedTimeSeriesSplit(3, purge=2))
    search.fit(X, X[:, 0], groups=laps)
    assert search.best_score_ > 0.5
    with sklearn.config_context(enable_metadata_routing=True):
        search.fit(X, X[:, 0], groups=laps)
        with pytest.raises(InputError, match="has 0 in several parts"):
            search.fit(X, X[:, 0], groups=laps % 2)


@pytest.mark.parametrize(
    ("options", "n_bins", "groups", "message", "parameter"),
    [
        ({}, 9, None, "9 bins are too few for 5 folds", "n_splits"),
        ({"purge": 60}, 100, None, "too few for 5 folds with purge=60 and embargo=60 bins: no bin is left", "purge"),
        ({}, 100, np.arange(99), r"groups has shape \(99,\): give one for each of 100 bins", "groups"),
        ({}, 100, np.repeat([0, 1], 50), "2 groups are too few for 5 folds", "groups"),
        ({}, 100, np.tile([0, 1], 50), "groups has 0 in several parts", "groups"),
    ],
)
def test_data_that_cannot_be_divided_raise_an_error_of_one_line(options, n_bins, groups, message, parameter):
    with pytest.raises(InputError, match=message) as caught:
        folds(BlockedTimeSeriesSplit(**options), np.zeros((n_bins, 1)), groups)
    assert caught.value.parameter == parameter
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"n_splits": 1}, "n_splits"),
        ({"purge": -1}, "purge"),
        ({"embargo": np.inf}, "embargo"),
        ({"purge": "2 s"}, "purge"),
    ],
)
def test_wrong_settings_raise_an_error_that_names_them(options, parameter):
    with pytest.raises(InputError) as caught:
        BlockedTimeSeriesSplit(**options)
    assert caught.value.parameter == parameter

"""Selected bins joined without gaps."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.data import Recording, join_bins
from kalmanssl.errors import InputError


def recording() -> Recording:
    rng = np.random.default_rng(0)
    time = 100 + 0.1 * np.arange(40)
    behavior = {"position": np.where(np.arange(40) == 12, np.nan, time), "velocity": rng.standard_normal((40, 2))}
    return Recording.from_arrays(
        rng.poisson(1.0, (40, 3)), time=time, bin_size=0.1, behavior=behavior, unit_ids=("a", "b", "c"),
        behavior_unit={"position": "m"}, epochs={"maze": (100, 104)},
    )  # fmt: skip


def test_kept_bins_follow_each_other_without_gaps() -> None:
    whole, keep = recording(), np.arange(40) % 10 > 6
    joined = join_bins(whole, keep)
    assert joined.segments() == [slice(0, 12)]
    np.testing.assert_allclose(joined.time, 100.7 + 0.1 * np.arange(12))
    np.testing.assert_array_equal(joined.activity, whole.activity[keep])
    for name, values in whole.behavior.items():
        np.testing.assert_array_equal(joined.behavior[name], values[keep])


def test_names_and_units_are_kept_but_not_what_has_the_old_times() -> None:
    joined = join_bins(recording(), np.arange(40) < 12)
    assert joined.unit_ids == ("a", "b", "c")
    assert joined.bin_size == 0.1
    assert joined.behavior_unit == {"position": "m"}
    assert joined.epochs == {}
    assert joined.spike_times is None
    assert joined.notes[-1] == "12 of 40 bins joined without gaps"


@pytest.mark.parametrize(("keep", "message"), [(np.ones(39), "shape"), (np.zeros(40), "at least one")])
def test_wrong_masks_are_rejected(keep: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        join_bins(recording(), keep)
    assert raised.value.parameter == "keep"

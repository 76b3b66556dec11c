"""Traces of several imaging planes are read together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_activity import RATE, sampled, traces, write
from nwb_sessions import one_line

from kalmanssl.data import Recording, summarize_nwb
from kalmanssl.errors import InputError

LAG = 0.4 / RATE  # seconds, of the second plane


def planes(path: Path, kind: str = "DfOverF", **changes: Any) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Write two planes, of 4 and 3 ROIs; the samples of the second one come a little later."""
    upper, lower = sampled(seed=1), sampled(units=3, seed=2)
    lower |= {"timestamps": lower["timestamps"] + LAG} | changes
    first = traces({f"{kind}/upper": dict(upper)}, columns={"Accepted": [1, 1, 0, 1]}, table_name="UpperROIs")
    second = traces({f"{kind}/lower": dict(lower)}, n_rois=3, table_name="LowerROIs")
    return write(path, first, second), upper, lower


def test_planes_are_joined_sample_by_sample(tmp_path: Path) -> None:
    path, upper, lower = planes(tmp_path / "planes.nwb")
    rec = Recording.from_nwb(path, behavior=False)
    assert rec.unit_ids == ("lower/100", "lower/101", "lower/102", "upper/100", "upper/101", "upper/103")
    np.testing.assert_array_equal(rec.activity[:, :3], lower["data"])
    np.testing.assert_array_equal(rec.activity[:, 3:], upper["data"][:, [0, 1, 3]])
    np.testing.assert_allclose(rec.time, lower["timestamps"])
    assert any("2 planes are read together" in note for note in rec.notes)
    assert any("upper: units: 1 of 4 are noise or rejected" in note for note in rec.notes)
    (taken,) = summarize_nwb(path).taken("activity")
    assert (taken.path, taken.columns) == ("processing/ophys/DfOverF", 6)


def test_one_plane_is_read_by_its_name(tmp_path: Path) -> None:
    path, upper, _ = planes(tmp_path / "planes.nwb")
    rec = Recording.from_nwb(path, behavior=False, activity="upper", units="all")
    np.testing.assert_array_equal(rec.activity, upper["data"])


def test_samples_without_one_of_the_planes_are_left_out(tmp_path: Path) -> None:
    late = sampled(n=100, units=3, seed=2)
    late["timestamps"] = late["timestamps"] + 3.0
    path, upper, _ = planes(tmp_path / "planes.nwb", **late)
    rec = Recording.from_nwb(path, behavior=False)
    np.testing.assert_allclose(rec.time, late["timestamps"])
    np.testing.assert_array_equal(rec.activity[:, 3:], upper["data"][60:160][:, [0, 1, 3]])


def test_planes_of_different_rates_are_named_one_by_one(tmp_path: Path) -> None:
    other = sampled(units=3, rate=RATE / 2)
    path, *_ = planes(tmp_path / "planes.nwb", **other)
    with pytest.raises(InputError, match=r"different sampling rates .* name one of") as error:
        Recording.from_nwb(path, behavior=False)
    assert "processing/ophys/DfOverF/upper" in one_line(error)


def test_series_of_the_same_rois_are_not_joined(tmp_path: Path) -> None:
    series = {"Fluorescence/RoiResponseSeries": sampled(), "Fluorescence/Deconvolved": sampled()}
    path = write(tmp_path / "one.nwb", traces(series))
    with pytest.raises(InputError, match=r"activity is ambiguous; name one of: .*Deconvolved, .*RoiResponseSeries"):
        Recording.from_nwb(path, behavior=False)


def test_planes_with_several_kinds_of_traces_are_joined_by_kind(tmp_path: Path) -> None:
    data = {f"{kind}Plane{plane}": sampled(seed=plane) for plane in (0, 1) for kind in ("Raw", "Deconvolved")}
    tables = [
        traces(
            {f"Fluorescence/{name}": data[name] for name in data if name.endswith(f"{plane}")},
            table_name=f"ROIs{plane}",
        )
        for plane in (0, 1)
    ]
    path = write(tmp_path / "neuroconv.nwb", *tables)
    with pytest.raises(
        InputError, match=r"name one of: .*DeconvolvedPlane\*, processing/ophys/Fluorescence/RawPlane\*"
    ):
        Recording.from_nwb(path, behavior=False)
    rec = Recording.from_nwb(path, behavior=False, activity="DeconvolvedPlane*")
    assert rec.kind == "counts"
    np.testing.assert_array_equal(rec.activity, np.hstack([sampled(seed=plane)["data"] for plane in (0, 1)]))
    assert rec.unit_ids[3:5] == ("DeconvolvedPlane0/103", "DeconvolvedPlane1/100")


def test_planes_directly_in_the_acquisition_are_joined(tmp_path: Path) -> None:
    path, upper, lower = planes(tmp_path / "planes.nwb")
    with h5py.File(path, "r+") as file:
        for name in ("upper", "lower"):
            file.move(f"processing/ophys/DfOverF/{name}", f"acquisition/{name}")
    rec = Recording.from_nwb(path, behavior=False, units="all")
    np.testing.assert_array_equal(rec.activity, np.hstack([lower["data"], upper["data"]]))


def test_planes_of_other_times_are_named_one_by_one(tmp_path: Path) -> None:
    path, *_ = planes(tmp_path / "planes.nwb", timestamps=1000.0 + np.arange(200) / RATE)
    with pytest.raises(InputError, match=r"have no samples at the same time; name one of: .*lower, .*upper") as error:
        Recording.from_nwb(path, behavior=False)
    one_line(error)

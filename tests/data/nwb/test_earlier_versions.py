"""Files in the layouts of earlier versions of NWB and pynwb.

The public files are those in tests/back_compat of the source distribution of pynwb. They are tested if they are in the
folder pynwb_back_compat of the data. The other tests make files with the same peculiarities.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_activity import field_potential, position, stored_bands, time_series, write
from nwb_sessions import one_line, session, spikes_of, tracked

from kalmanssl.data import Recording, summarize_nwb
from kalmanssl.errors import InputError


def read_or_refuse(path: Path, **arguments: Any) -> Recording | str:
    """Return the recording, or the message of the refusal."""
    try:
        return Recording.from_nwb(path, **arguments)
    except InputError as error:
        return str(error)


@pytest.mark.data
def test_public_files_of_earlier_versions_are_read_or_refused_in_one_line(data_dir: Path) -> None:
    files = sorted((data_dir / "pynwb_back_compat").glob("*.nwb"))
    if not files:
        pytest.skip(f"PUBLIC NWB FILES NOT TESTED: copy tests/back_compat of pynwb to {data_dir / 'pynwb_back_compat'}")
    for path in files:
        summary = summarize_nwb(path)
        assert str(summary)
        named = [{"activity": o.path, "behavior": False} for o in summary.objects if o.role == "activity"]
        for arguments in ({}, *named):
            result = read_or_refuse(path, **arguments)
            if isinstance(result, Recording):
                assert np.isfinite(result.activity).all()
            else:
                assert "\n" not in result


def edited(path: Path, change: Callable[[h5py.File], None]) -> Path:
    """Change a file with h5py."""
    with h5py.File(path, "r+") as file:
        change(file)
    return path


@pytest.mark.parametrize("version", ["2.0b", "2.0.2", "2.1.0", "2.3.0", "2.5.0", "2.8.0", "2.10.0-alpha"])
def test_sessions_of_every_version_are_read(tmp_path: Path, version: str) -> None:
    path = session(tmp_path / "a.nwb", spikes_of(), position=[tracked()])
    expected = Recording.from_nwb(path).activity
    edited(path, lambda file: file.attrs.__setitem__("nwb_version", version))
    np.testing.assert_array_equal(Recording.from_nwb(path).activity, expected)


def test_sessions_without_activity_are_refused(tmp_path: Path) -> None:
    path = edited(write(tmp_path / "a.nwb"), lambda file: file.attrs.__setitem__("nwb_version", "2.0b"))
    with pytest.raises(InputError, match="no units with spike times and no other activity") as error:
        Recording.from_nwb(path)
    one_line(error)


def test_electrodes_and_bands_in_general_tables_are_read(tmp_path: Path) -> None:
    """Before pynwb 3.1 these tables had the type DynamicTable instead of a type of their own."""

    def make_general(name: str) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            file[name].attrs["neurodata_type"] = "DynamicTable"
            file[name].attrs["namespace"] = "hdmf-common"

        return change

    electrodes = make_general("general/extracellular_ephys/electrodes")
    signal = np.random.default_rng(0).standard_normal((4000, 2))
    path = edited(write(tmp_path / "a.nwb", field_potential(signal, 400.0)), electrodes)
    channels = Recording.from_nwb(path, activity="LFP", behavior=False, bands={"theta": (4, 12)})
    assert channels.unit_ids == ("10/theta", "11/theta")

    path = write(tmp_path / "b.nwb", stored_bands(signal.reshape(1000, 4, 2) ** 2, 40.0))
    edited(edited(path, electrodes), make_general("processing/ecephys/bands/bands"))
    assert Recording.from_nwb(path, behavior=False).unit_ids[:3] == ("10/b0", "10/b1", "11/b0")


def test_series_without_data_are_listed_and_are_not_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", time_series("acquisition/rates", data=np.ones((90, 3)), rate=10.0))
    assert Recording.from_nwb(path, behavior=False).n_units == 3

    def remove(file: h5py.File) -> None:
        del file["acquisition/rates/data"]

    edited(path, remove)
    (found,) = summarize_nwb(path).objects
    assert (found.use, found.remark) == ("skipped", "has no data")
    with pytest.raises(InputError, match="no other activity") as error:
        Recording.from_nwb(path, behavior=False)
    one_line(error)


def test_series_without_a_unit_are_read(tmp_path: Path) -> None:
    def remove(file: h5py.File) -> None:
        for path in ("acquisition/rates/data", "processing/behavior/Position/SpatialSeries/data"):
            del file[path].attrs["unit"]
            file[path].attrs.pop("offset", None)

    content = time_series("acquisition/rates", data=np.ones((90, 3)), rate=10.0)
    recording = Recording.from_nwb(edited(write(tmp_path / "a.nwb", content, position(np.arange(0, 9, 0.1))), remove))
    assert recording.kind == "signal"
    assert recording.behavior_unit == {"position": ""}

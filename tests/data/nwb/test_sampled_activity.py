"""Traces of ROIs, rates, counts and band power as the activity of a recording."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_activity import field_potential, position, sampled, stored_bands, time_series, traces, write
from nwb_sessions import one_line

from kalmanssl.data import Recording
from kalmanssl.errors import InputError, RecordingWarning


def read(path: Path, **arguments: Any) -> Recording:
    return Recording.from_nwb(path, **({"behavior": False} | arguments))


def message(path: Path, **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        read(path, **arguments)
    return one_line(error)


@pytest.fixture(scope="module")
def imaging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw, dF/F and deconvolved traces of four ROIs, and a position at other times."""
    raw, df, events = (sampled(seed=seed) for seed in (0, 1, 2))
    df["data"] = df["data"] - 1.0
    return write(
        tmp_path_factory.mktemp("nwb") / "imaging.nwb",
        traces({"Fluorescence/Raw": raw, "DfOverF/DfOverF": df, "Fluorescence/Deconvolved": events}),
        position(np.arange(0.0, 20.0, 0.033)),
    )


def test_deconvolved_events_keep_their_samples_and_the_ids_of_the_rois(imaging: Path) -> None:
    rec = read(imaging, activity="Deconvolved", behavior="position")
    expected = sampled(seed=2)
    np.testing.assert_array_equal(rec.activity, expected["data"])
    np.testing.assert_array_equal(rec.time, expected["timestamps"])
    assert rec.unit_ids == ("100", "101", "102", "103")
    assert (rec.kind, rec.bin_size) == ("counts", 0.05)
    np.testing.assert_allclose(rec.behavior["position"], np.sin(rec.time), atol=1e-3)


def test_signals_are_averaged_and_events_are_summed_in_longer_bins(imaging: Path) -> None:
    df, events = read(imaging, activity="DfOverF", bin_size=0.1), read(imaging, activity="Deconvolved", bin_size=0.1)
    assert (df.kind, events.kind) == ("signal", "counts")
    np.testing.assert_allclose(df.activity, sampled(seed=1)["data"].reshape(100, 2, 4).mean(axis=1) - 1, atol=1e-6)
    np.testing.assert_allclose(events.activity, sampled(seed=2)["data"].reshape(100, 2, 4).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(df.time, 5.025 + 0.1 * np.arange(100))


def test_signals_in_bins_that_are_no_multiple_of_the_period(imaging: Path) -> None:
    rec = read(imaging, activity="Raw", bin_size=0.12)
    data, times = sampled()["data"], sampled()["timestamps"]
    start = times[0] - 0.025
    for i in (0, 1, 40):
        inside = (times >= start + 0.12 * i - 1e-9) & (times < start + 0.12 * (i + 1) - 1e-9)
        np.testing.assert_allclose(rec.activity[i], data[inside].mean(axis=0), rtol=1e-6)
    assert "not a multiple of the sampling period" in message(imaging, activity="Deconvolved", bin_size=0.12)
    assert "shorter than the sampling period" in message(imaging, activity="Raw", bin_size=0.01)


def test_an_ambiguous_choice_lists_the_candidates(imaging: Path) -> None:
    said = message(imaging)
    for name in ("Fluorescence/Raw", "DfOverF/DfOverF", "Fluorescence/Deconvolved"):
        assert f"processing/ophys/{name}" in said
    assert "activity='Fluorescence' is ambiguous" in message(imaging, activity="Fluorescence")
    assert "activity='Spikes' is not in the file; it has: processing/ophys" in message(imaging, activity="Spikes")


def test_rois_are_selected_by_columns_of_their_table(imaging: Path) -> None:
    assert read(imaging, activity="Deconvolved", units={"odd": 1}).unit_ids == ("101", "103")
    assert read(imaging, activity="Deconvolved", units={"id": [102]}).unit_ids == ("102",)
    assert "has no column 'depth'" in message(imaging, activity="Raw", units={"depth": 1})


def test_gaps_of_the_samples_are_gaps_of_the_recording(tmp_path: Path) -> None:
    args = sampled()
    args["timestamps"][90:] += 1.0
    args["data"][150:155] = np.nan
    path = write(tmp_path / "a.nwb", traces({"DfOverF/trace": args}))
    with pytest.warns(RecordingWarning, match="5 samples without any known value"):
        rec = read(path)
    assert [s.stop - s.start for s in rec.segments()] == [90, 60, 45]
    with pytest.warns(RecordingWarning):
        pairs = read(path, bin_size=0.1)
    assert [s.stop - s.start for s in pairs.segments()] == [45, 30, 22]


def test_a_slightly_irregular_clock_has_the_same_number_of_samples_in_every_bin(tmp_path: Path) -> None:
    args = sampled(n=2000, rate=29.97)
    args["timestamps"] += np.random.default_rng(0).normal(0, 1e-4, 2000)
    args["data"][:] = 1.0
    rec = read(write(tmp_path / "a.nwb", traces({"Fluorescence/Deconvolved": args})), bin_size=0.1)
    assert set(np.unique(rec.activity)) == {3.0}
    assert len(rec) == 666


def test_columns_with_nan_are_left_out_and_named_or_refused(tmp_path: Path) -> None:
    args = sampled()
    args["data"][:, 1] = np.nan
    args["data"][7, 2] = np.nan
    path = write(tmp_path / "a.nwb", traces({"DfOverF/trace": args}))
    with pytest.warns(RecordingWarning, match=r"2 of 4 columns have NaN or infinite values \(101, 102\)"):
        assert read(path).unit_ids == ("100", "103")
    said = message(path, units="all")
    assert "2 of 4 columns have NaN or infinite values (101, 102)" in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(path, units={"id": [100, 103]}).n_units == 2
    args["data"][9] = [np.nan, 1, 1, np.nan]
    args["data"][10] = [1, 1, 1, np.nan]
    args["data"][11] = [np.nan, 1, 1, 1]
    assert "has no column without NaN" in message(write(tmp_path / "b.nwb", traces({"DfOverF/trace": args})))


def test_files_with_damaged_traces_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "rois.nwb", traces({}))
    assert "has ROIs (4 in processing/ophys/ImageSegmentation/ROIs) but no RoiResponseSeries" in message(path)
    path = write(tmp_path / "columns.nwb", traces({"DfOverF/trace": sampled(n_rows=3)}))
    assert "has 4 columns but 3 ROIs" in message(path)
    args = sampled()
    args["timestamps"][50] = 5.0
    path = write(tmp_path / "back.nwb", traces({"DfOverF/trace": args}))
    assert "time does not increase at sample 50" in message(path)
    path = write(tmp_path / "untimed.nwb", traces({"DfOverF/trace": sampled()}))
    with h5py.File(path, "a") as file:
        del file["processing/ophys/DfOverF/trace/timestamps"]
    assert "has neither timestamps nor a starting time" in message(path)


def test_rates_are_averaged_and_binned_counts_are_summed(tmp_path: Path) -> None:
    rates = write(tmp_path / "rates.nwb", time_series("ecephys/firing_rates", **sampled(rate=100.0, unit="Hz")))
    rec = read(rates)
    assert (rec.kind, rec.bin_size, rec.unit_ids) == ("signal", 0.03, ("0", "1", "2", "3"))
    np.testing.assert_allclose(rec.activity[0], sampled()["data"][:3].mean(axis=0), rtol=1e-6)
    counts = sampled(rate=100.0) | {"data": np.ones((200, 4), dtype=np.int64)}
    rec = read(write(tmp_path / "counts.nwb", time_series("acquisition/spike_counts", **counts)), bin_size=0.05)
    assert rec.kind == "counts"
    assert set(np.unique(rec.activity)) == {5.0}
    assert "has no table of its columns" in message(rates, units={"id": 1})


def test_a_series_without_a_telling_name_is_read_only_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", time_series("ecephys/data", **sampled()), position(np.arange(0.0, 20.0, 0.03)))
    assert "name one of: processing/ecephys/data" in message(path)
    rec = read(path, activity="data", behavior=None)
    assert list(rec.behavior) == ["position"]
    assert rec.n_units == 4


def test_stored_band_power_is_averaged(tmp_path: Path) -> None:
    data = np.random.default_rng(0).gamma(1.0, size=(400, 2, 3))
    rec = read(write(tmp_path / "a.nwb", stored_bands(data, 40.0)), bin_size=0.05)
    np.testing.assert_allclose(rec.activity, data.reshape(200, 2, 6).mean(axis=1), rtol=1e-5)
    assert rec.unit_ids == ("10/b0", "10/b1", "10/b2", "11/b0", "11/b1", "11/b2")
    assert rec.kind == "signal"
    path = write(tmp_path / "b.nwb", stored_bands(data, 40.0, metric="phase"))
    assert "phases, which cannot be averaged" in message(path)


def test_log_power_of_a_field_potential_follows_its_amplitude(tmp_path: Path) -> None:
    time = np.arange(20_000) / 500.0
    amplitude = np.where(time < 20, 1.0, 3.0)
    noise = 0.01 * np.random.default_rng(0).standard_normal((len(time), 2))
    signal = np.column_stack([amplitude * np.sin(2 * np.pi * 8 * time), np.sin(2 * np.pi * 20 * time)]) + noise
    path = write(tmp_path / "a.nwb", field_potential(signal, 500.0))
    assert "name one of: processing/ecephys/LFP/LFP" in message(path)
    rec = read(path, activity="LFP", bin_size=0.25)
    assert rec.unit_ids[:2] == ("10/delta", "10/theta")
    theta = rec.activity[:, rec.unit_ids.index("10/theta")]
    late, early = (rec.time > 25) & (rec.time < 39), (rec.time > 5) & (rec.time < 19)
    assert theta[late].mean() - theta[early].mean() == pytest.approx(2 * np.log(3), abs=0.05)
    assert theta[early].mean() == pytest.approx(np.log(0.5), abs=0.1)
    beta, other = (rec.activity[late, rec.unit_ids.index(f"11/{band}")] for band in ("beta", "theta"))
    assert beta.mean() > other.mean() + 1
    some = read(path, activity="LFP", bands={"ripple": (100, 200)}, units={"location": "CA3"})
    assert some.unit_ids == ("10/ripple",)
    assert "bands must be LOW to HIGH within 0 and 250 Hz" in message(path, activity="LFP", bands={"fast": (200, 300)})


def test_raw_signals_are_refused_as_field_potentials(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", field_potential(np.zeros((1000, 2)), 30_000.0))
    assert "is a raw signal" in message(path, activity="LFP")


def test_units_have_priority_over_traces(tmp_path: Path) -> None:
    def units(file: Any) -> None:
        for row in range(2):
            file.add_unit(spike_times=np.linspace(5, 14, 50) + 0.01 * row, id=row)

    path = write(tmp_path / "a.nwb", units, traces({"Fluorescence/Deconvolved": sampled()}))
    assert read(path).n_units == 2
    assert read(path, activity="units").spike_times is not None
    assert read(path, activity="Deconvolved").n_units == 4


@pytest.mark.data
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_calcium_recordings_are_read_as_they_are_stored(data_dir: Path, number: int) -> None:
    path = data_dir / "recordings" / f"calcium_ca1_c6m3_session{number}.nwb"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    rec = Recording.from_nwb(path, bin_size=0.05, activity="Deconvolved")
    with h5py.File(path) as file:
        events = file["processing/ophys/Fluorescence/Deconvolved"]
        place = file["processing/behavior/Position/SpatialSeries/data"]
        np.testing.assert_array_equal(rec.activity, events["data"][()])
        np.testing.assert_array_equal(rec.time, events["timestamps"][()])
        np.testing.assert_array_equal(rec.behavior["position"], place[()] * place.attrs["conversion"])
    assert (rec.kind, rec.bin_size) == ("counts", 0.05)

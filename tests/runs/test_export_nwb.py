"""Latents and decoded behavior in NWB files: types, times, units, values, copies of the recording."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest
from nwb_checks import SUBJECT, complaints, content_of
from nwb_sessions import session, spikes_of, tracked

from kalmanssl.data import Covariances, Latents, Recording
from kalmanssl.decoding import DecodedCategory, DecodedPosition
from kalmanssl.decoding.calibration import RegionCalibration
from kalmanssl.decoding.calibration._trust import TrustJudgment
from kalmanssl.decoding.grids._grid import Axis, Grid
from kalmanssl.decoding.results._levels import QUANTILE_LEVELS
from kalmanssl.decoding.results._posterior import GridPosterior
from kalmanssl.errors import InputError
from kalmanssl.runs import _export_nwb as export
from kalmanssl.runs import check_decoded_target, write_decoded

N_BINS, N_STATES = 240, 3
REGULAR = 1000.0 + 0.025 * np.arange(N_BINS)
GAPPED = REGULAR + np.repeat([0.0, 7.0], N_BINS // 2)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with a position and facts about its session and subject."""
    folder = tmp_path_factory.mktemp("recording")
    plain = session(folder / "plain.nwb", spikes_of(), position=[tracked()])
    facts = {
        "session_start_time": datetime(2020, 1, 1, tzinfo=UTC),
        "identifier": "day 1",
        "experimenter": ["Doe, Jane"],
        "keywords": ["hippocampus"],
        "subject": SUBJECT,
    }
    Recording.from_nwb(plain).to_nwb(folder / "rat.nwb", metadata=facts)
    return folder / "rat.nwb"


def latents(time: np.ndarray) -> Latents:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, N_STATES, N_STATES))
    covariances = Covariances(root @ root.transpose(0, 2, 1), np.arange(N_BINS) % 4)
    mean, latent = rng.normal(size=(2, N_BINS, N_STATES))
    return Latents(mean, covariances, time, latent, latent**2, latent[:, 0], np.zeros(N_BINS, dtype=int))


def decoded(time: np.ndarray, n_dims: int = 1, period: float | None = None) -> DecodedPosition:
    rng = np.random.default_rng(1)
    points = rng.uniform(0.0, period or 2.0, (N_BINS, n_dims))
    table = points[:, :, None] + 0.4 * (QUANTILE_LEVELS - 0.5)
    axes = tuple(Axis(0.0, (period or 2.0) / 10, 10, period) for _ in range(n_dims))
    mass = rng.dirichlet(np.ones(10**n_dims), N_BINS).reshape(N_BINS, *[10] * n_dims)
    grid = GridPosterior(Grid(axes), mass, RegionCalibration.identity())
    return DecodedPosition(time, 0.9, table, QUANTILE_LEVELS, points, (period,) * n_dims, n_dims == 1, [grid])


def labels(time: np.ndarray) -> DecodedCategory:
    mass = np.random.default_rng(2).dirichlet(np.ones(3), N_BINS)
    return DecodedCategory(time, np.array(["left", "right", "stem"]), mass, 0.9, RegionCalibration.identity())


def write(result: Any, out: Path, recording: Path, behavior: str, unit: str, **options: Any) -> Path:
    fields = {"behavior": behavior, "unit": unit, "made_by": "kalmanssl, filtered", "overwrite": False} | options
    write_decoded(result, out, latents=latents(result.time), recording=recording, **fields)
    return out


CASES = {
    "position in two dimensions": (decoded(REGULAR, 2), "position", "cm", "Position"),
    "head direction": (decoded(REGULAR, period=2 * np.pi), "angle", "rad", "CompassDirection"),
    "phase of a cycle": (decoded(GAPPED, period=1.0), "phase", "cycles", "BehavioralTimeSeries"),
    "labels": (labels(REGULAR), "trials/arm", "", "BehavioralTimeSeries"),
}


@pytest.mark.parametrize("case", CASES)
def test_files_have_standard_types_and_follow_best_practices(case: str, recording: Path, tmp_path: Path) -> None:
    result, behavior, unit, kind = CASES[case]
    out = write(result, tmp_path / "out.nwb", recording, behavior, unit)
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        file = io.read()
        module = file.processing["kalmanssl"]
        container = module[f"decoded_{behavior.replace('/', '_')}"]
        assert container.neurodata_type == kind
        assert file.subject.species == "Rattus norvegicus"
        assert file.experimenter == ("Doe, Jane",)
        np.testing.assert_allclose(module["latents"].get_timestamps(), result.time, rtol=0, atol=1e-9)
        for series in (container.spatial_series if kind != "BehavioralTimeSeries" else container.time_series).values():
            np.testing.assert_allclose(series.get_timestamps(), result.time, rtol=0, atol=1e-9)
    assert complaints(out) == []


def test_latents_are_written_with_their_covariances(recording: Path, tmp_path: Path) -> None:
    out = write(decoded(GAPPED), tmp_path / "out.nwb", recording, "position", "meters")
    expected = latents(GAPPED)
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        module = io.read().processing["kalmanssl"]
        for name, values in (
            ("latents", expected.mean),
            ("latent_covariance", expected.cov),
            ("latent_variance", np.diagonal(expected.cov, axis1=1, axis2=2)),
        ):
            assert module[name].data.dtype == np.float32
            np.testing.assert_array_equal(module[name].data[:], values.astype(np.float32))


def test_large_covariances_are_left_out(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_MAX_COVARIANCE", N_BINS * N_STATES**2 - 1)
    out = write(decoded(REGULAR), tmp_path / "out.nwb", recording, "position", "meters")
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        names = set(io.read().processing["kalmanssl"].data_interfaces)
    assert "latent_variance" in names
    assert "latent_covariance" not in names


def test_intervals_and_posterior_in_two_dimensions(recording: Path, tmp_path: Path) -> None:
    result = decoded(REGULAR, 2)
    out = write(result, tmp_path / "out.nwb", recording, "position", "cm")
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        module = io.read().processing["kalmanssl"]
        series = module["decoded_position"].spatial_series
        for name in ("mean", "lower", "upper"):
            np.testing.assert_array_equal(series[name].data[:], getattr(result, name))
        assert series["lower"].unit == "centimeters"
        assert "90 %" in series["lower"].description
        np.testing.assert_allclose(module["posterior"].data[:], result.grids[0].mass, rtol=1e-3, atol=1e-6)
        cells = module["posterior_cells"].to_dataframe()
        for dimension in ("x", "y"):
            np.testing.assert_allclose(
                cells.center[cells.dimension == dimension], result.posterior.coords[dimension].values
            )


def test_probabilities_are_rounded_and_take_less_space(recording: Path, tmp_path: Path) -> None:
    result = decoded(REGULAR, 2)
    log_mass = np.random.default_rng(3).uniform(np.log(1e-30), 0, (N_BINS, 10, 10))
    mass = np.exp(log_mass - np.log(np.exp(log_mass).sum(axis=(1, 2), keepdims=True)))
    result = replace(result, grids=[replace(result.grids[0], mass=mass)])
    out = write(result, tmp_path / "out.nwb", recording, "position", "cm")
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        data = io.read().processing["kalmanssl"]["posterior"].data
        stored = data[:]
        assert data.dtype == np.float32  # the validator of NWB accepts no numbers of 16 bits
        assert data.id.get_storage_size() < 0.5 * stored.nbytes
    assert ((stored == 0) == (mass < 1e-6)).all()
    np.testing.assert_allclose(stored[stored > 0], mass[stored > 0], rtol=1e-3)
    np.testing.assert_allclose(stored.sum(axis=(1, 2)), 1, rtol=1e-3)


def test_the_posterior_can_be_left_out(recording: Path, tmp_path: Path) -> None:
    out = write(decoded(REGULAR), tmp_path / "out.nwb", recording, "position", "meters", posterior=False)
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        names = set(io.read().processing["kalmanssl"].data_interfaces)
    assert not {"posterior", "posterior_cells"} & names
    assert {"latents", "decoded_position", "trust", "trusted"} <= names
    assert complaints(out) == []


def test_intervals_at_several_levels_and_trust_are_written(recording: Path, tmp_path: Path) -> None:
    plain = decoded(REGULAR)
    trust = np.linspace(0.0, 1.0, N_BINS)
    judgment = TrustJudgment(trust, trust > 0.25, np.where(trust > 0.25, 0, 1).astype(np.int8))
    result = replace(plain, judgment=judgment)
    out = write(result, tmp_path / "out.nwb", recording, "position", "meters")
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        module = io.read().processing["kalmanssl"]
        series = module["decoded_position"].spatial_series
        for name, level in (("50", 0.5), ("80", 0.8), ("95", 0.95), ("", 0.9)):
            for end, expected in zip(("lower", "upper"), result.interval(level), strict=True):
                found = series[f"{end}_{name}".rstrip("_")]
                np.testing.assert_array_equal(found.data[:], expected)
                assert f"{100 * level:g} % interval" in found.description
        np.testing.assert_array_equal(module["trust"].data[:], trust)
        np.testing.assert_array_equal(module["trusted"].data[:], trust > 0.25)
    assert complaints(out) == []


def test_bounds_of_angles_are_ordered_and_within_one_turn_of_zero(recording: Path, tmp_path: Path) -> None:
    plain = decoded(REGULAR, period=2 * np.pi)
    width = np.linspace(-1.5, 1.5, len(QUANTILE_LEVELS))
    result = replace(plain, table=(plain.points[:, :, None] + width).astype(np.float32))
    out = write(result, tmp_path / "out.nwb", recording, "angle", "rad")
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        container = io.read().processing["kalmanssl"]["decoded_angle"]
        found = {name: container.spatial_series[name].data[:] for name in ("mean", "lower", "upper", "lower_50")}
        assert container.neurodata_type == "CompassDirection"
        assert "ordered" in container.spatial_series["lower"].description
    assert (found["lower"] < 0).any()
    assert max(np.abs(values).max() for values in found.values()) <= 2 * np.pi
    assert ((found["lower"] <= found["lower_50"]) & (found["lower_50"] <= found["mean"])).all()
    assert (found["mean"] <= found["upper"]).all()
    turns = (found["mean"] - result.mean) / (2 * np.pi)
    assert set(np.round(turns, 9)) == {-1.0, 0.0}
    for name, expected in (("lower", result.lower), ("upper", result.upper)):
        np.testing.assert_allclose(found[name] - 2 * np.pi * turns, expected, atol=1e-5)


def test_labels_are_written_with_probabilities_and_sets(recording: Path, tmp_path: Path) -> None:
    result = labels(REGULAR)
    out = write(result, tmp_path / "out.nwb", recording, "trials/arm", "")
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        module = io.read().processing["kalmanssl"]
        series = module["decoded_trials_arm"].time_series
        assert list(series["label"].data[:]) == list(result.most_probable)
        np.testing.assert_array_equal(series["probability"].data[:], result.mass)
        np.testing.assert_array_equal(series["set"].data[:], result.region().inside.values)
        assert list(module["decoded_trials_arm_labels"]["label"][:]) == ["left", "right", "stem"]


def test_pynapple_reads_the_results(recording: Path, tmp_path: Path) -> None:
    nap = pytest.importorskip("pynapple", reason="READING WITH PYNAPPLE NOT TESTED: pip install pynapple")
    result = decoded(GAPPED)
    out = write(result, tmp_path / "out.nwb", recording, "position", "meters")
    file = nap.load_file(str(out))
    np.testing.assert_array_equal(file["mean"].values, result.mean)
    np.testing.assert_allclose(file["mean"].t, GAPPED)
    np.testing.assert_array_equal(file["latents"].values, latents(GAPPED).mean.astype(np.float32))
    file.close()


@pytest.mark.parametrize("time", [REGULAR, GAPPED], ids=["without gaps", "with gaps"])
def test_a_copy_of_the_recording_has_the_results_and_the_same_content(
    time: np.ndarray, recording: Path, tmp_path: Path
) -> None:
    before = recording.read_bytes()
    out = write(decoded(time), tmp_path / "out.nwb", recording, "position", "meters", append_to_copy=True)
    assert recording.read_bytes() == before
    assert content_of(out, "/processing/kalmanssl") == content_of(recording)
    assert [path.name for path in tmp_path.iterdir()] == ["out.nwb"]
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        module = io.read().processing["kalmanssl"]
        series = module["decoded_position"].spatial_series
        np.testing.assert_array_equal(series["mean"].data[:], decoded(time).mean)
        np.testing.assert_allclose(series["upper"].get_timestamps(), time, rtol=0, atol=1e-9)
        assert len(module["posterior_cells"].to_dataframe()) == 10
    read, source = Recording.from_nwb(out), Recording.from_nwb(recording)
    np.testing.assert_array_equal(read.behavior["position"], source.behavior["position"])
    np.testing.assert_array_equal(read.activity, source.activity)
    assert complaints(out) == []


def test_results_can_be_added_twice_under_different_names(recording: Path, tmp_path: Path) -> None:
    result = decoded(REGULAR)
    first = write(result, tmp_path / "first.nwb", recording, "position", "meters", append_to_copy=True)
    with pytest.raises(InputError, match=r"module 'kalmanssl' exists in .*first.nwb.*choose another name"):
        check_decoded_target(tmp_path / "second.nwb", first, False, append_to_copy=True)
    options = {"append_to_copy": True, "module": "again"}
    check_decoded_target(tmp_path / "second.nwb", first, False, **options)
    second = write(result, tmp_path / "second.nwb", first, "position", "meters", **options)
    with pynwb.NWBHDF5IO(str(second), "r") as io:
        assert {"kalmanssl", "again"} <= set(io.read().processing)


def test_a_failed_write_keeps_the_file_that_was_there(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "out.nwb"
    out.write_text("mine")
    monkeypatch.setattr(export, "add_module_to_copy", fail)
    with pytest.raises(InputError, match="No space left on device; nothing was changed"):
        write(decoded(REGULAR), out, recording, "position", "m", append_to_copy=True, overwrite=True)
    assert out.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out.nwb"]


def test_unusable_targets_are_rejected_before_decoding(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged.nwb"
    damaged.write_bytes(recording.read_bytes()[:20_000])
    file = tmp_path / "file"
    file.write_text("not a folder")
    cases = [
        (recording, recording, {"overwrite": True, "append_to_copy": True}, "is the recording itself"),
        (file / "out.nwb", recording, {}, "no file can be created in"),
        (tmp_path / "out.csv", recording, {"append_to_copy": True}, "append_to_copy needs an output file that ends in"),
        (tmp_path / "out.nwb", damaged, {"append_to_copy": True}, "damaged|truncated"),
        (tmp_path / "out.nwb", recording, {"module": "a/b"}, "cannot be a name in an NWB file"),
    ]
    for out, source, options, message in cases:
        with pytest.raises(InputError, match=message) as error:
            check_decoded_target(out, source, **({"overwrite": False} | options))
        assert "\n" not in str(error.value)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="no file can be created in"):
        check_decoded_target(tmp_path / "out.nwb", recording, False)
    assert {path.name for path in tmp_path.iterdir()} == {"damaged.nwb", "file"}


def test_copies_of_files_with_relative_links_stay_in_the_same_folder(tmp_path: Path) -> None:
    import h5py

    source = session(tmp_path / "rat.nwb", spikes_of(), position=[tracked()])
    with h5py.File(source, "r+") as file:
        file["acquisition/video"] = h5py.ExternalLink("video.nwb", "/acquisition/video")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match=r"refers to the file video\.nwb in its folder"):
        check_decoded_target(tmp_path / "elsewhere" / "out.nwb", source, False, append_to_copy=True)
    check_decoded_target(tmp_path / "out.nwb", source, False, append_to_copy=True)

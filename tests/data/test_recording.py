from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray
from nwb_sessions import START, one_line, session, spikes_of, tracked

from kalmanssl.data import Recording
from kalmanssl.errors import InputError


def same(a: Recording, b: Recording) -> None:
    np.testing.assert_array_equal(a.activity, b.activity)
    np.testing.assert_allclose(a.time, b.time, rtol=0, atol=1e-9)
    assert (a.bin_size, a.unit_ids, a.cell_type, a.kind) == (b.bin_size, b.unit_ids, b.cell_type, b.kind)
    assert a.behavior_unit == b.behavior_unit
    assert a.behavior.keys() == b.behavior.keys()
    for name in a.behavior:
        np.testing.assert_allclose(a.behavior[name], b.behavior[name], atol=1e-9)
    assert a.epochs.keys() == b.epochs.keys()
    for name in a.epochs:
        np.testing.assert_array_equal(a.epochs[name], b.epochs[name])
    assert (a.spike_times is None) == (b.spike_times is None)
    for s, t in zip(a.spike_times or (), b.spike_times or (), strict=True):
        np.testing.assert_array_equal(s, t)


@pytest.mark.parametrize("epoch", [None, "MazeEpoch"])
def test_spikes_round_trip(plain: Path, tmp_path: Path, epoch: str | None) -> None:
    rec = Recording.from_nwb(plain, units="all", epoch=epoch)
    rec.to_nwb(tmp_path / "b.nwb")
    same(Recording.from_nwb(tmp_path / "b.nwb", units="all"), rec)


def test_round_trip_keeps_gaps_in_time(plain: Path, tmp_path: Path) -> None:
    rec = Recording.from_nwb(plain)
    middle = (rec.time > START + 20) & (rec.time < START + 40)
    gapped = rec._take(~middle)
    assert len(gapped.segments()) == 2
    gapped.to_nwb(tmp_path / "b.nwb")
    same(Recording.from_nwb(tmp_path / "b.nwb"), gapped)


def test_spread_spikes_round_trip(tmp_path: Path) -> None:
    path = session(tmp_path / "a.nwb", spikes_of(tick=0.01), position=[tracked()])
    rec = Recording.from_nwb(path)
    rec.to_nwb(tmp_path / "b.nwb")
    same(Recording.from_nwb(tmp_path / "b.nwb"), rec)


@pytest.mark.parametrize("kind", ["counts", "signal"])
def test_arrays_round_trip(tmp_path: Path, kind: Any) -> None:
    rng = np.random.default_rng(0)
    values = rng.poisson(2, (50, 3)) if kind == "counts" else rng.standard_normal((50, 3))
    time = 100 + 0.1 * np.arange(50) + np.repeat([0.0, 7.0], 25)
    xy = rng.standard_normal((50, 2))
    xy[3:9] = np.nan
    rec = Recording.from_arrays(
        values,
        time,
        bin_size=0.1,
        behavior={"position": xy, "speed": rng.random(50)},
        behavior_unit={"position": "centimeters", "speed": "cm/s"},
        unit_ids=["a", "b", "ü"],
        epochs={"run": (100, 103)},
        cell_type=["x", "y", "z"],
        kind=kind,
    )
    rec.to_nwb(tmp_path / "b.nwb")
    same(Recording.from_nwb(tmp_path / "b.nwb", bin_size=0.1, behavior=["position", "speed"]), rec)
    other = Recording.from_nwb(tmp_path / "b.nwb", bin_size=0.025, behavior=False)
    assert other.bin_size == 0.1
    assert any("bin_size=0.025 is ignored" in note for note in other.notes)


def test_names_of_units_are_kept(plain: Path, tmp_path: Path) -> None:
    rec = replace(Recording.from_nwb(plain), unit_ids=("a1", "b2", "007"))
    rec.to_nwb(tmp_path / "b.nwb")
    assert Recording.from_nwb(tmp_path / "b.nwb").unit_ids == ("a1", "b2", "007")


def test_written_files_have_the_public_layout_and_pass_validation(plain: Path, tmp_path: Path) -> None:
    import pynwb

    Recording.from_nwb(plain).to_nwb(tmp_path / "b.nwb")
    assert not pynwb.validate(path=str(tmp_path / "b.nwb"))
    with pynwb.NWBHDF5IO(str(tmp_path / "b.nwb"), "r") as io:
        file = io.read()
        assert list(file.units["cell_type"][:]) == ["excitatory"] * 3
        assert file.processing["behavior"]["Position"]["SpatialSeries"].unit == "meters"
        assert set(file.epochs["label"][:]) == {"PREEpoch", "MazeEpoch", "POSTEpoch"}


def test_an_existing_file_is_kept_unless_told(plain: Path, tmp_path: Path) -> None:
    rec = Recording.from_nwb(plain)
    path = tmp_path / "b.nwb"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists: choose another name"):
        rec.to_nwb(path)
    assert path.read_text() == "precious"
    rec.to_nwb(path, overwrite=True)
    assert Recording.from_nwb(path).n_units == 3
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist"):
        rec.to_nwb(tmp_path / "nowhere" / "b.nwb")


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(28, "No space left"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_nothing_is_lost_when_writing_fails(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, raised: Any
) -> None:
    import pynwb

    def fail(*_: Any, **__: Any) -> None:
        raise failure

    rec = Recording.from_nwb(plain)
    path = tmp_path / "b.nwb"
    path.write_text("precious")
    monkeypatch.setattr(pynwb.NWBHDF5IO, "write", fail)
    with pytest.raises(raised):
        rec.to_nwb(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["b.nwb"]
    assert path.read_text() == "precious"


# Arrays, cutting


def test_from_arrays_defaults() -> None:
    rec = Recording.from_arrays(np.ones((4, 2), int), behavior=np.arange(4))
    np.testing.assert_allclose(rec.time, [0.0125, 0.0375, 0.0625, 0.0875])
    assert (rec.bin_size, rec.unit_ids, rec.kind) == (0.025, ("0", "1"), "counts")
    assert list(rec.behavior) == ["position"]
    timed = Recording.from_arrays(np.ones((4, 2)), time=[0, 1, 2, 5])
    assert timed.bin_size == 1.0
    assert timed.segments() == [slice(0, 3), slice(3, 4)]


def test_from_tensors_and_sequences_with_gaps() -> None:
    counts = torch.arange(8.0).reshape(4, 2)
    time = torch.tensor([0.0, 1.0, 2.0, 5.0], requires_grad=True)
    for given in (counts.requires_grad_(), counts.bfloat16(), list(counts)):
        rec = Recording.from_arrays(given, time=time, behavior={"x": time, "y": [0.5, None, 1, 2]})
        np.testing.assert_array_equal(rec.activity, np.arange(8).reshape(4, 2))
        np.testing.assert_array_equal(rec.time, [0, 1, 2, 5])
        np.testing.assert_array_equal(rec.behavior["x"], [0, 1, 2, 5])
        np.testing.assert_array_equal(rec.behavior["y"], [0.5, np.nan, 1, 2])


def test_text_bools_and_categories_are_labels_and_what_is_missing_is_none() -> None:
    behavior = {
        "text": ["go", float("nan"), None, ""],
        "bools": np.array([True, False, True, True]),
        "categories": pd.Categorical(["go", "stop", None, "go"]),
        "numbers": [1, None, 2, 3],
    }
    found = Recording.from_arrays(np.ones((4, 2)), behavior=behavior).behavior
    assert found["text"].tolist() == ["go", None, None, None]
    assert found["bools"].tolist() == [True, False, True, True]
    assert found["bools"].dtype == object
    assert found["categories"].tolist() == ["go", "stop", None, "go"]
    assert found["numbers"].dtype == float


GOOD = np.ones((3, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activity": np.ones(3)}, r"shape \(time, units\), got \(3,\); .*reshape\(-1, 1\)"),
        ({"activity": np.ones((0, 2))}, r"at least one bin and one unit, got shape \(0, 2\)"),
        ({"activity": np.array([["a"]])}, r"activity must be numbers"),
        ({"activity": [[0, 1], [np.nan, 1]]}, r"1 NaN.*first at bin 1, unit 0"),
        ({"activity": [[0, 1], [0, -2.0]]}, r"negative values, the first -2 at bin 1, unit 1; pass kind='signal'"),
        ({"activity": [[0, 1], [0]]}, r"activity has parts of different shapes, such as \(2,\) and \(1,\)"),
        ({"activity": GOOD, "time": "abc"}, "time must be numbers"),
        ({"activity": GOOD, "behavior": {"x": ["a", "b"]}}, r"behavior\['x'\] has labels of shape \(2,\)"),
        ({"activity": GOOD, "behavior": {"x": [["a"], ["b"], ["c"]]}}, r"labels must be \(3,\), one for each bin"),
        ({"activity": GOOD, "behavior": {"x": [1j, 2, 3]}}, r"behavior\['x'\] must be numbers"),
        ({"activity": GOOD, "epochs": {"run": "ab"}}, r"epochs\['run'\] must be numbers"),
        ({"activity": GOOD, "kind": "video"}, r"kind must be 'counts' or 'signal', got 'video'"),
        ({"activity": GOOD, "time": [0, 1]}, r"time must have shape \(3,\).*got \(2,\)"),
        ({"activity": GOOD, "time": [0, 2, 1]}, r"time must increase, but bin 2 \(1 s\)"),
        ({"activity": GOOD, "time": [0, np.nan, 1]}, r"time has 1 NaN"),
        ({"activity": GOOD, "time": [0, 1, 2], "bin_size": 25.0}, r"less than half of bin_size=25 s"),
        ({"activity": GOOD, "bin_size": -1}, r"bin_size must be positive"),
        ({"activity": GOOD[:1], "time": [0]}, r"bin_size is needed"),
        ({"activity": GOOD, "unit_ids": ["a", "a"]}, r"2 different names.*got 2, 1 of them different"),
        ({"activity": GOOD, "cell_type": ["a"]}, r"cell_type must have 2 entries"),
        ({"activity": GOOD, "behavior": np.ones(2)}, r"behavior\['position'\] must have shape \(3,\) or \(3, dims\)"),
        ({"activity": GOOD, "behavior": {"x": [0, np.inf, 1]}}, r"behavior\['x'\] has infinite"),
        ({"activity": GOOD, "behavior_unit": {"x": "m"}}, r"behavior_unit has \['x'\], but behavior has nothing"),
        ({"activity": GOOD, "epochs": {"run": (2, 1)}}, r"epochs\['run'\] must be \(start, stop\)"),
    ],
)
def test_bad_arrays_name_the_way_out(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Recording.from_arrays(**arguments)
    one_line(error)


def test_split_cuts_bins_spikes_and_behavior(plain: Path) -> None:
    rec = Recording.from_nwb(plain)
    before, after = rec.split(at=START + 40.0)
    assert before.time.max() < START + 40.0 <= after.time.min()
    np.testing.assert_array_equal(np.concatenate([before.activity, after.activity]), rec.activity)
    for part in (before, after):
        assert len(part.behavior["position"]) == len(part)
        assert part.spike_times is not None
        assert [len(s) for s in part.spike_times] == part.activity.sum(axis=0).tolist()
        arrays = zip((part.activity, *part.spike_times), (rec.activity, *rec.spike_times), strict=True)
        assert all(np.shares_memory(*pair) for pair in arrays)  # long recordings are not copied
    with pytest.raises(InputError, match=r"split\(at=5\) leaves one side empty; the recording covers 999.9"):
        rec.split(at=5)


def test_restrict(plain: Path) -> None:
    rec = Recording.from_nwb(plain)
    part = rec.restrict(start=START + 10, stop=START + 40, epoch="MazeEpoch")
    assert part.time.min() >= START + 30
    assert part.time.max() < START + 40
    assert part.duration == pytest.approx(10.0)
    assert part.unit_ids == rec.unit_ids
    with pytest.raises(InputError, match="epoch='x' is not in the recording; its epochs: MazeEpoch, POST"):
        rec.restrict(epoch="x")
    with pytest.raises(InputError, match=r"there is no bin in start=5000.0; the recording covers"):
        rec.restrict(start=5000.0)


def test_restrict_takes_pairs_of_times_and_names_of_intervals_as_its_only_argument():
    time = np.arange(100) * 0.1 + 0.05
    spans = {"rest": [[6.0, 7.0], [0.0, 1.0], [0.5, 2.0]]}
    rec = Recording.from_arrays(np.ones((100, 2)), time=time, epochs=spans)
    expected = ((time < 2.0) & (time >= 0.0)) | ((time >= 6.0) & (time < 7.0))
    np.testing.assert_array_equal(rec.restrict("rest").time, time[expected])  # its intervals overlap
    np.testing.assert_array_equal(rec.restrict([[6.0, 7.0], [0.0, 2.0]]).time, time[expected])
    np.testing.assert_array_equal(rec.restrict(np.array([1.0, 2.0])).time, rec.restrict(1.0, 2.0).time)
    np.testing.assert_array_equal(rec.restrict("rest", 1.0).time, time[:10])
    for wrong in ("run", [[2.0, 1.0]], [1.0, 2.0, 3.0], [[0.0, 2.0], [1.0, 3.0]], [[50.0, 60.0]]):
        with pytest.raises(InputError, match="start"):
            rec.restrict(wrong)


def test_repr_is_one_line(plain: Path) -> None:
    text = repr(Recording.from_nwb(plain))
    assert "plain.nwb: 3 units x 2400 bins of 25 ms" in text
    assert "behavior position (meters)" in text
    assert "\n" not in text


def test_tables_and_labeled_arrays_have_names_and_times():
    counts = np.random.default_rng(0).poisson(1.0, (30, 3))
    time = 5 + 0.1 * np.arange(30)
    table = pd.DataFrame(counts, columns=["a", "b", "c"], index=pd.Index(time, name="time"))
    array = xarray.DataArray(counts, {"time": time, "unit": ["a", "b", "c"]}, ("time", "unit"))
    for activity in (table, array):
        recording = Recording.from_arrays(activity)
        assert recording.unit_ids == ("a", "b", "c")
        np.testing.assert_array_equal(recording.time, time)
        np.testing.assert_array_equal(recording.activity, counts)
    other = Recording.from_arrays(table.reset_index(drop=True), bin_size=0.5, unit_ids=[1, 2, 3])
    assert (other.unit_ids, other.time[0]) == (("1", "2", "3"), 0.25)
    assert Recording.from_arrays(array.drop_vars("unit")).unit_ids == ("0", "1", "2")


def test_tables_whose_times_do_not_increase_raise_an_error():
    table = pd.DataFrame(np.ones((3, 2)), index=pd.Index([0.0, 2.0, 1.0], name="time"))
    with pytest.raises(InputError, match=r"time must increase, but bin 2 \(1 s\)"):
        Recording.from_arrays(table)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([], "index selects none of 30 bins"),
        ([3, 1], "in order of time"),
        ([1, 1], "no bin can be repeated"),
        (2, "slice"),
    ],
)
def test_bins_that_cannot_be_selected_raise_an_error(index, message):
    recording = Recording.from_arrays(np.ones((30, 2)))
    with pytest.raises(InputError, match=message) as caught:
        recording[np.array(index, dtype=int)]
    assert caught.value.parameter == "index"


def test_selected_bins_keep_their_time_behavior_and_spikes():
    rng = np.random.default_rng(0)
    recording = Recording.from_arrays(rng.poisson(1.0, (30, 2)), behavior=rng.normal(size=30))
    recording = replace(recording, spike_times=tuple(np.sort(rng.uniform(0, 0.75, 50)) for _ in range(2)))
    mask = np.arange(30) % 10 < 4
    for index in (mask, np.flatnonzero(mask), (np.flatnonzero(mask), Ellipsis)):
        part = recording[index]
        np.testing.assert_array_equal(part.activity, recording.activity[mask])
        np.testing.assert_array_equal(part.time, recording.time[mask])
        np.testing.assert_array_equal(part.behavior["position"], recording.behavior["position"][mask])
        for times, known in zip(part.spike_times, recording.spike_times, strict=True):
            np.testing.assert_array_equal(times, known[mask[(known / 0.025).astype(int)]])
    assert recording.shape == (30, 2)

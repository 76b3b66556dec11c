"""Fetching from a DANDI archive: what is read and written, and continuing after failures."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.error import URLError

import h5py
import numpy as np
import pynwb
import pytest
from dandi_archive import MAZE, PERIOD, SESSION, Archive, Failure, FullDisk, serve, write_hc11_session

import kalmanssl as ks
from kalmanssl.datasets import dandi
from kalmanssl.datasets.dandi import _block_store, _fetch, _http
from kalmanssl.errors import DownloadError, InputError


@pytest.fixture(scope="module")
def session_file(tmp_path_factory) -> Path:
    return write_hc11_session(tmp_path_factory.mktemp("source") / "session.nwb")


@pytest.fixture
def archive(session_file):
    """An archive with one session, without a checksum, so that it is read in parts."""
    archive = Archive()
    archive.add(SESSION, session_file.read_bytes(), checksum=None)
    with serve(archive):
        yield archive


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    """The pauses that the client asked for; none of them is waited."""
    waited: list[float] = []
    monkeypatch.setattr(_http, "pause", waited.append)
    return waited


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 16 KiB, so that the small session has many."""
    for module in (_block_store, _fetch, dandi._remote_file):
        monkeypatch.setattr(module, "BLOCK", 2**14)


def fetch(archive: Archive, out: Path, **options):
    return dandi.fetch("000044", SESSION, out, api=archive.api, **options)


def fails(archive: Archive, out: Path, match: str, error=InputError, **options) -> str:
    """Check that a fetch fails with one line, and that no file is under the final name."""
    with pytest.raises(error, match=match) as raised:
        fetch(archive, out, **options)
    assert "\n" not in str(raised.value)
    assert not out.exists()
    return str(raised.value)


def assert_same_data(out: Path, source: Path) -> None:
    with h5py.File(out) as new, h5py.File(source) as old:
        for path in ("units/spike_times", "units/spike_times_index", "units/shank_id", "units/cell_type", "units/id"):
            np.testing.assert_array_equal(new[path][()], old[path][()])
        for path in ("epochs/start_time", "epochs/stop_time", "epochs/label"):
            np.testing.assert_array_equal(new[f"intervals/{path}"][()], old[f"intervals/{path}"][()])
        path = "processing/behavior/1.6mLinearMazePosition/1.6mLinearMazeSpatialSeries/data"
        np.testing.assert_array_equal(new[path][()], old[path][()])


# What is read and written


def test_extract_has_the_data_of_the_source_and_only_parts_of_the_source_are_read(archive, session_file, tmp_path):
    fetched = fetch(archive, tmp_path / "out.nwb")
    assert_same_data(tmp_path / "out.nwb", session_file)
    assert (fetched.n_units, fetched.n_spikes) == (6, 3000)
    assert fetched.epochs == ("PREEpoch", "MazeEpoch", "POSTEpoch")
    assert archive.sent == fetched.n_bytes < 0.3 * session_file.stat().st_size
    assert os.listdir(tmp_path) == ["out.nwb"]


def test_extract_is_valid_and_keeps_the_description_of_the_session(archive, tmp_path):
    fetch(archive, tmp_path / "out.nwb")
    assert not pynwb.validate(path=str(tmp_path / "out.nwb"))
    with pynwb.NWBHDF5IO(str(tmp_path / "out.nwb"), "r") as io:
        nwb = io.read()
        assert (nwb.subject.species, nwb.session_id, nwb.lab) == ("Rattus norvegicus", "Achilles_10252013", "Buzsaki")
        assert nwb.session_start_time == datetime(2013, 10, 25, tzinfo=UTC)
        assert f"DANDI:000044/0.250624.0426/{SESSION}" in nwb.notes
        assert list(nwb.intervals["states"]["label"][:]) == ["Wake", "NREM", "REM"]
        assert set(nwb.units.colnames) == {"spike_times", "cell_type", "location", "shank_id"}


def test_sampling_period_that_is_stored_as_a_rate_is_corrected(archive, tmp_path):
    fetched = fetch(archive, tmp_path / "out.nwb")
    with pynwb.NWBHDF5IO(str(tmp_path / "out.nwb"), "r") as io:
        position = io.read().processing["behavior"]["1.6mLinearMazePosition"]["1.6mLinearMazeSpatialSeries"]
        times = position.get_timestamps()
        assert position.rate == pytest.approx(1 / PERIOD)
    np.testing.assert_allclose(times[[0, -1]], MAZE, atol=0.06)
    assert any("sampling period" in note for note in fetched.notes)


def test_extract_can_be_read_as_a_recording(archive, tmp_path):
    fetch(archive, tmp_path / "out.nwb")
    recording = ks.Recording.from_nwb(
        tmp_path / "out.nwb", epoch="MazeEpoch", behavior="1.6mLinearMazeLinearizedPosition"
    )
    assert recording.activity.shape[1] == 5  # excitatory
    assert MAZE[0] <= recording.time[0] < recording.time[-1] <= MAZE[1]
    assert np.isfinite(recording.behavior["position"]).any()


def test_circular_maze_with_a_correct_rate_is_unchanged(tmp_path):
    source = write_hc11_session(tmp_path / "source.nwb", n_lfp=16, rate=1 / 0.0256, maze="1.5mCircularMaze")
    archive = Archive()
    archive.add(dandi._hc11.hc11_path("Cicero_09172014"), source.read_bytes())
    with serve(archive):
        fetched = dandi.fetch_hc11("cicero_09172014", tmp_path / "out.nwb", api=archive.api)
    assert fetched.behavior == ("1.5mCircularMazeLinearizedPosition", "1.5mCircularMazePosition")
    assert fetched.notes == ()


def test_sessions_of_hc11_have_paths_and_other_names_are_refused():
    assert len({dandi._hc11.hc11_path(session) for session in dandi.HC11_SESSIONS}) == 8
    assert dandi._hc11.hc11_path("Achilles_10252013") == SESSION
    with pytest.raises(InputError, match="did you mean 'Gatsby-08022013'"):
        dandi._hc11.hc11_path("Gatsby_0802201")


def test_default_version_is_the_newest_published_one_or_the_draft(archive):
    assert dandi.find_asset("DANDI:000044", SESSION, api=archive.api).version == "0.250624.0426"
    assert dandi.find_asset("000044/draft", SESSION, api=archive.api).version == "draft"
    archive.versions = ("draft",)
    assert dandi.find_asset("000044", SESSION, api=archive.api).version == "draft"


def test_progress_ends_at_the_total(archive, tmp_path):
    shown = []
    fetched = fetch(archive, tmp_path / "out.nwb", on_progress=lambda done, total: shown.append((done, total)))
    assert all(done <= total for done, total in shown)
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)
    assert shown[-1] == (fetched.n_bytes, fetched.n_bytes)


def test_existing_file_is_replaced_only_on_request_and_only_by_a_complete_one(archive, tmp_path):
    out = tmp_path / "out.nwb"
    out.write_text("old")
    with pytest.raises(InputError, match="exists"):
        fetch(archive, out)
    archive.fail("blob", *[Failure(status=500)] * 6)
    with pytest.raises(DownloadError):
        fetch(archive, out, overwrite=True)
    assert out.read_text() == "old"
    fetch(archive, out, overwrite=True)
    assert h5py.is_hdf5(out)


# Failures that pass


def test_cut_connection_is_continued_with_the_next_byte(archive, session_file, tmp_path, pauses):
    archive.fail("blob", Failure(cut_after=1000), Failure(cut_after=0), Failure(), Failure(cut_after=7000))
    fetch(archive, tmp_path / "out.nwb")
    assert_same_data(tmp_path / "out.nwb", session_file)
    assert archive.n_requests("bytes=1000-16383") == 2
    assert pauses == [1.0, 2.0, 1.0]  # the count of failures begins again after progress


def test_stalled_stream_counts_as_cut_and_is_continued(archive, session_file, tmp_path, pauses):
    lines = []
    archive.fail("blob", Failure(stalled_after=1000), Failure(stalled_after=0), Failure(), Failure(stalled_after=7000))
    client = _http.HttpClient(timeout=0.2, logger=lines.append)
    fetch(archive, tmp_path / "out.nwb", client=client)
    assert_same_data(tmp_path / "out.nwb", session_file)
    assert pauses == [1.0, 2.0, 1.0]
    assert all("does not answer in time; trying again" in line for line in lines)


def test_stream_that_stays_stalled_ends_the_fetch_and_the_next_one_continues(archive, session_file, tmp_path):
    out = tmp_path / "out.nwb"
    archive.fail("blob", *[Failure()] * 3, *[Failure(stalled_after=0)] * 3)
    client = _http.HttpClient(attempts=3, timeout=0.2)
    fails(archive, out, "does not answer in time, 3 times in a row: try again later", DownloadError, client=client)
    assert os.listdir(tmp_path) == [".out.nwb.part"]
    assert fetch(archive, out).n_bytes == archive.sent
    assert_same_data(out, session_file)


def test_failed_fetch_is_continued_without_reading_anything_twice(archive, session_file, tmp_path):
    out = tmp_path / "out.nwb"
    archive.fail("blob", *[Failure()] * 3, *[Failure(status=503)] * 6)
    fails(archive, out, "503 .* 6 times in a row: try again later", DownloadError)
    assert os.listdir(tmp_path) == [".out.nwb.part"]
    before = archive.sent
    assert before > 0
    fetched = fetch(archive, out)
    assert archive.sent == fetched.n_bytes
    assert_same_data(out, session_file)
    assert os.listdir(tmp_path) == ["out.nwb"]


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_damaged_partial_file_is_noticed(archive, session_file, tmp_path, damage):
    out, partial = tmp_path / "out.nwb", tmp_path / ".out.nwb.part"
    archive.fail("blob", *[Failure()] * 4, *[Failure(status=503)] * 6)
    fails(archive, out, "503", DownloadError)
    content = bytearray(partial.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 255
    partial.write_bytes(content if damage == "flip" else content[:-100])
    fetch(archive, out)
    assert_same_data(out, session_file)


def test_partial_file_of_another_asset_is_not_used(archive, session_file, tmp_path):
    (tmp_path / ".out.nwb.part").write_bytes(b'{"format": 1, "asset": "other"}\n' + b"x" * 10_000)
    fetch(archive, tmp_path / "out.nwb")
    assert_same_data(tmp_path / "out.nwb", session_file)


def test_server_errors_and_rate_limits_are_repeated_after_a_pause(archive, session_file, tmp_path, pauses):
    lines = []
    archive.fail("api", Failure(status=500), Failure(status=429, headers={"Retry-After": "7"}))
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    archive.fail("download", Failure(status=503, headers={"Retry-After": later}))
    archive.fail("blob", Failure(status=502))
    fetch(archive, tmp_path / "out.nwb", logger=lines.append)
    assert_same_data(tmp_path / "out.nwb", session_file)
    assert (pauses[:2], pauses[3:]) == ([1.0, 7.0], [2.0])
    assert 20 < pauses[2] <= 30
    assert sum("trying again in" in line for line in lines) == 4


def test_address_that_expired_is_requested_again(archive, session_file, tmp_path, pauses):
    archive.on_blob = lambda: setattr(archive, "token", "2") if archive.n_requests("/blob/") == 4 else None
    fetch(archive, tmp_path / "out.nwb")
    assert archive.n_requests("download") == 2
    assert pauses == []
    assert_same_data(tmp_path / "out.nwb", session_file)


def test_checksum_of_a_small_asset_is_verified(archive, session_file, tmp_path):
    archive.add(SESSION, session_file.read_bytes())
    assert fetch(archive, tmp_path / "out.nwb").n_bytes == session_file.stat().st_size


# Failures that end the fetch


def test_pauses_double_until_the_client_gives_up(archive, tmp_path, pauses):
    archive.fail("api", *[Failure(status=500)] * 6)
    fails(archive, tmp_path / "out.nwb", "500 .* 6 times in a row: try again later", DownloadError)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_long_retry_after_is_not_waited_for(archive, tmp_path, pauses):
    archive.fail("blob", Failure(status=429, headers={"Retry-After": "3600"}))
    fails(archive, tmp_path / "out.nwb", "429 .* asks to wait 3600 s: try again after that time", DownloadError)
    assert pauses == []


def test_wrong_checksum_ends_the_fetch_and_nothing_is_kept(archive, session_file, tmp_path):
    archive.add(SESSION, session_file.read_bytes(), checksum="0" * 64)
    fails(archive, tmp_path / "out.nwb", "is damaged: its SHA-256 is", DownloadError)
    assert os.listdir(tmp_path) == []


def test_dandiset_version_and_asset_that_do_not_exist_are_named(archive, tmp_path):
    with pytest.raises(InputError, match=r"no dandiset 000045 .* check the name"):
        dandi.fetch("000045", SESSION, tmp_path / "a.nwb", api=archive.api)
    fails(archive, tmp_path / "a.nwb", "has no version '0.1'", version="0.1")
    with pytest.raises(InputError, match=r"did you mean sub-Achilles/sub-Achilles_ses-Achilles-10252013"):
        dandi.fetch("000044", SESSION.replace("10252013", "10252014"), tmp_path / "a.nwb", api=archive.api)
    for name in "bcdef":
        archive.add(f"sub-{name}.nwb", b"x")
    with pytest.raises(InputError, match=r"its assets: sub-Achilles.*, sub-b.nwb, .*sub-f.nwb"):
        dandi.fetch("000044", "", tmp_path / "a.nwb", api=archive.api)
    assert os.listdir(tmp_path) == []


def test_refused_connection_and_unknown_name_end_at_once(archive, tmp_path, pauses, monkeypatch):
    with pytest.raises(DownloadError, match=r"127.0.0.1:1 refuses the connection: check the network"):
        dandi.fetch("000044", SESSION, tmp_path / "a.nwb", api="http://127.0.0.1:1/api")

    def unresolved(*_, **__):
        raise URLError(_http.socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(_http.urllib.request, "urlopen", unresolved)
    with pytest.raises(DownloadError, match=r"the name api.dandiarchive.org cannot be resolved: check the network"):
        dandi.fetch("000044", SESSION, tmp_path / "a.nwb")
    assert pauses == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("where", "failure", "match"),
    [
        ("api", Failure(status=401), "answers 401 .* not public"),
        ("blob", Failure(status=403), "answers 403 .* not public"),
        ("blob", Failure(status=416), "answers 416"),
        ("api", Failure(body=b"<html>Please log in</html>"), "does not answer with JSON"),
        ("api", Failure(body=b"[]"), "does not answer with JSON"),
    ],
)
def test_refused_request_is_not_repeated(archive, tmp_path, pauses, where, failure, match):
    archive.fail(where, failure)
    fails(archive, tmp_path / "out.nwb", match, DownloadError)
    assert pauses == []


def test_server_without_range_requests_wrong_size_and_changed_file_are_noticed(archive, tmp_path):
    archive.ranges_supported = False
    fails(archive, tmp_path / "a.nwb", "does not support range requests", DownloadError)
    archive.ranges_supported = True
    archive.on_blob = lambda: setattr(archive, "etag", f'"{len(archive.requests)}"')
    fails(archive, tmp_path / "b.nwb", "changed while it was read: run the same command again", DownloadError)
    archive.on_blob = None
    archive.wrong_size = True
    fails(archive, tmp_path / "c.nwb", "but the archive lists", DownloadError)


def test_assets_that_are_not_nwb_files_in_hdf5_are_refused(archive, session_file, tmp_path):
    archive.zarr.add(SESSION)
    fails(archive, tmp_path / "a.nwb", "is a Zarr store")
    archive.zarr.clear()
    archive.add(SESSION, b"text" * 100, checksum=None)
    fails(archive, tmp_path / "b.nwb", "is not an NWB file in HDF5")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = [1]
    archive.add(SESSION, (tmp_path / "plain.h5").read_bytes(), checksum=None)
    fails(archive, tmp_path / "c.nwb", "is HDF5 but not an NWB 2 file")
    archive.add(SESSION, session_file.read_bytes()[:200_000], checksum=None)
    fails(archive, tmp_path / "d.nwb", "is not an NWB file in HDF5, or is damaged")
    assert os.listdir(tmp_path) == ["plain.h5"]


def test_full_disk_during_the_download_keeps_what_was_read(archive, session_file, tmp_path, monkeypatch):
    opened = _block_store.open_unbuffered
    with monkeypatch.context() as patch:
        patch.setattr(_block_store, "open_unbuffered", lambda path: FullDisk(opened(path), 70_000))
        fails(archive, tmp_path / "out.nwb", r"cannot write to .*\.part: No space left on device; free some space")
    assert os.listdir(tmp_path) == [".out.nwb.part"]
    assert (tmp_path / ".out.nwb.part").stat().st_size > 60_000
    fetched = fetch(archive, tmp_path / "out.nwb")
    assert_same_data(tmp_path / "out.nwb", session_file)
    assert archive.sent < fetched.n_bytes + 2**18


def test_full_disk_during_writing_leaves_no_half_written_file(archive, session_file, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("Can't write data (errno = 28, error message = 'No space left on device')")

    with monkeypatch.context() as patch:
        patch.setattr(pynwb.NWBHDF5IO, "write", full)
        fails(archive, tmp_path / "out.nwb", "cannot write to .*out.nwb: No space left on device")
    assert os.listdir(tmp_path) == [".out.nwb.part"]
    before = archive.sent
    fetch(archive, tmp_path / "out.nwb")
    assert archive.sent == before
    assert_same_data(tmp_path / "out.nwb", session_file)


def test_data_that_differ_after_writing_are_noticed(archive, tmp_path, monkeypatch):
    from kalmanssl.data.nwb import _extract_writer

    written = _extract_writer._storable
    monkeypatch.setattr(_extract_writer, "_storable", lambda v: written(v) * 2 if v.dtype.kind == "f" else written(v))
    fails(archive, tmp_path / "out.nwb", "differ after writing; check the disk")
    assert os.listdir(tmp_path) == [".out.nwb.part"]


@pytest.mark.usefixtures("interruptible")
def test_interrupt_keeps_what_was_read(archive, session_file, tmp_path):
    out = tmp_path / "out.nwb"
    archive.on_blob = lambda: os.kill(os.getpid(), signal.SIGINT) if archive.n_requests("/blob/") == 4 else None
    with pytest.raises(KeyboardInterrupt, match="run the same command again to continue"):
        fetch(archive, out)
    assert os.listdir(tmp_path) == [".out.nwb.part"]
    archive.on_blob = None
    fetched = fetch(archive, out)
    assert archive.sent < fetched.n_bytes + 2**18
    assert_same_data(out, session_file)


def test_two_fetches_do_not_write_the_same_file(archive, tmp_path):
    asset = dandi.find_asset("000044", SESSION, api=archive.api)
    store = _block_store.BlockStore(tmp_path / ".out.nwb.part", asset.asset_id, asset.size)
    fails(archive, tmp_path / "out.nwb", "another fetch is writing")
    store.close()
    fetch(archive, tmp_path / "out.nwb")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dandiset": "44"}, "dandiset must be six digits"),
        ({"dandiset": "000044/0.1", "version": "0.2"}, "names another version"),
        ({"api": "file:///etc"}, "api must be an address"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, match):
    arguments = {"dandiset": "000044", "path": SESSION, "out": tmp_path / "a.nwb"} | options
    with pytest.raises(InputError, match=match):
        dandi.fetch(**arguments)

"""The command fetch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_commands import fails, invoke
from dandi_archive import SESSION, Archive, Failure, serve, write_hc11_session
from nwb_checks import complaints

from kalmanssl.data import Recording
from kalmanssl.datasets.dandi import HC11_SESSIONS, _http


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    return write_hc11_session(tmp_path_factory.mktemp("source") / "session.nwb", n_lfp=16).read_bytes()


@pytest.fixture
def archive(content, monkeypatch):
    """An archive with one session; the command uses it, and it does not wait between attempts."""
    archive = Archive()
    archive.add(SESSION, content)
    with serve(archive):
        monkeypatch.setenv("KALMANSSL_DANDI_API", archive.api)
        monkeypatch.setattr(_http, "pause", lambda _: None)
        yield archive


def test_session_of_hc11_is_written_and_the_next_command_works(archive, tmp_path):
    out = tmp_path / "new" / "achilles.nwb"
    result = invoke("fetch", "hc11", "--session", "Achilles_10252013", "--out", out)
    assert result.exit_code == 0, result.output
    assert "6 units, 3000 spikes" in result.stdout
    assert "sampling period" in result.stderr
    arguments = result.stdout.split("next step: kalmanssl fit ")[1].split()
    assert arguments[-4:] == ["--epoch", "MazeEpoch", "--behavior", "1.6mLinearMazeLinearizedPosition"]
    recording = Recording.from_nwb(out, epoch=arguments[-3], behavior=arguments[-1])
    assert recording.activity.shape[1] == 5
    assert recording.duration > 90


def test_extract_has_no_violation_of_best_practices_that_its_source_does_not_have(archive, content, tmp_path):
    assert invoke("fetch", "hc11", "--session", "Achilles_10252013", "--out", tmp_path / "a.nwb").exit_code == 0
    (tmp_path / "source.nwb").write_bytes(content)
    of_source, of_extract = complaints(tmp_path / "source.nwb"), complaints(tmp_path / "a.nwb")
    # The source states no resolution of the spike times, and its raw signal, which is not extracted, has no conversion.
    assert {text.split()[0] for text in of_source} == {
        "check_units_resolution_is_set",
        "check_electrical_series_unscaled_data",
    }
    assert {text.split()[0] for text in of_extract} == {"check_units_resolution_is_set"}
    assert set(of_extract) < set(of_source)


def test_asset_of_a_dandiset_is_written(archive, tmp_path):
    out = tmp_path / "a.nwb"
    result = invoke("fetch", "DANDI:000044/draft", "--path", SESSION, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"DANDI:000044/draft/{SESSION}" in result.stderr
    assert os.listdir(tmp_path) == ["a.nwb"]
    assert "exists: choose another file" in fails("fetch", "000044", "--path", SESSION, "--out", out)
    assert invoke("fetch", "000044", "--path", SESSION, "--out", out, "--overwrite").exit_code == 0


def test_wrong_arguments_are_named(archive, tmp_path):
    out = ("--out", tmp_path / "a.nwb")
    assert all(session in fails("fetch", "hc11", *out) for session in HC11_SESSIONS)
    assert "there is no session 'Achilles'" in fails("fetch", "hc11", "--session", "Achilles", *out)
    assert "--path is for dandisets" in fails("fetch", "hc11", "--path", SESSION, *out)
    assert "--session is for hc11" in fails("fetch", "000044", "--session", "x", *out)
    assert "SOURCE must be hc11 or a dandiset" in fails("fetch", "hc3", *out)
    assert f"--path: DANDI:000044/0.250624.0426 has no asset '': its assets: {SESSION}" in fails(
        "fetch", "000044", *out
    )
    assert "--version: DANDI:000044 has no version '1'" in fails(
        "fetch", "000044", "--version", "1", "--path", "x", *out
    )
    assert "no dandiset 000001" in fails("fetch", "000001", "--path", "x", *out)
    assert "api must" in fails("fetch", "000044", "--path", "x", "--api", "ftp://x", *out)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("where", "failures", "message"),
    [
        ("blob", [Failure(cut_after=0)] * 6, "was cut, 6 times in a row: try again later"),
        ("blob", [Failure(status=500)] * 6, "answers 500"),
        ("download", [Failure(status=503)] * 6, "answers 503"),
        ("api", [Failure(status=429, headers={"Retry-After": "5"})] * 6, "answers 429"),
        ("blob", [Failure(status=403)], "answers 403"),
    ],
)
def test_failure_of_the_server_ends_with_one_line_and_the_next_fetch_succeeds(
    archive, tmp_path, where, failures, message
):
    out = tmp_path / "a.nwb"
    command = ("fetch", "hc11", "--session", "Achilles-10252013", "--out", out)
    archive.fail(where, *failures)
    assert message in fails(*command)
    assert not out.exists()
    assert invoke(*command).exit_code == 0


def test_missing_network_and_wrong_checksum_end_with_one_line(archive, content, tmp_path):
    command = ("fetch", "hc11", "--session", "Achilles-10252013", "--out", tmp_path / "a.nwb")
    assert "refuses the connection: check the network" in fails(*command, "--api", "http://127.0.0.1:1/api")
    archive.add(SESSION, content, checksum="0" * 64)
    assert "is damaged: its SHA-256 is" in fails(*command)
    assert os.listdir(tmp_path) == []


def test_folder_that_cannot_be_written_is_named(archive, tmp_path):
    (tmp_path / "file").write_text("")
    assert f"--out: cannot write to {tmp_path / 'file'}" in fails(
        "fetch", "000044", "--path", SESSION, "--out", Path(tmp_path / "file" / "a.nwb")
    )


@pytest.mark.usefixtures("interruptible")
def test_interrupt_says_how_to_continue(archive, tmp_path):
    out = tmp_path / "a.nwb"
    archive.on_blob = lambda: os.kill(os.getpid(), signal.SIGINT)
    command = ("fetch", "hc11", "--session", "Achilles-10252013", "--out", out)
    assert "run the same command again to continue" in fails(*command, code=130)
    assert not out.exists()
    archive.on_blob = None
    assert invoke(*command).exit_code == 0


def test_process_ends_with_code_2_after_an_error_of_the_first_read(archive, tmp_path):
    archive.add(SESSION, archive.files[SESSION], checksum=None)
    archive.fail("blob", Failure(status=403))
    code = "from kalmanssl.cli import main; main()"
    arguments = ["fetch", "hc11", "--session", "Achilles-10252013", "--out", str(tmp_path / "a.nwb")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2  # HDF5 crashes at the end of the process if something keeps the remote file open
    assert [line[:6] for line in done.stderr.splitlines()] == ["DANDI:", "error:"]

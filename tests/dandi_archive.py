"""A small DANDI archive on this machine: its REST API, its storage with range requests, and failures on demand."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

SESSION = "sub-Achilles/sub-Achilles_ses-Achilles-10252013_behavior+ecephys.nwb"
PERIOD = 0.0256
MAZE = (200.0, 300.0)


@dataclass
class Failure:
    """What the server does instead of a normal answer, once.

    `status` sends a status code; `cut_after` closes the connection after so many bytes of the body; `stalled_after`
    sends so many bytes and then nothing, with the connection open, until the test releases the server.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    stalled_after: int | None = None
    body: bytes | None = None


class FullDisk:
    """A file on a disk that has no space left after `limit` bytes."""

    def __init__(self, file: Any, limit: int) -> None:
        self._file, self._left = file, limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        if self._left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._file.write(data[: self._left])
        self._left -= written
        return written


class _Server(ThreadingHTTPServer):
    """A server that is silent when a client leaves: its traceback would appear among the output of the command."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclass
class Archive:
    """State of the server; tests change it and read the requests."""

    files: dict[str, bytes] = field(default_factory=dict)  # by path
    checksums: dict[str, str | None] = field(default_factory=dict)
    zarr: set[str] = field(default_factory=set)
    versions: tuple[str, ...] = ("0.250624.0426", "draft")
    failures: dict[str, deque[Failure]] = field(
        default_factory=lambda: {"api": deque(), "download": deque(), "blob": deque()}
    )
    ranges_supported: bool = True
    wrong_size: bool = False
    etag: str | None = '"etag"'
    token: str = "1"  # blob addresses with another token have expired
    requests: list[str] = field(default_factory=list)
    sent: int = 0  # bytes of files
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)  # ends stalled answers
    on_blob: Any = None  # called before each answer with a part of a file

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    def add(self, path: str, content: bytes, checksum: str | None = "right") -> None:
        self.files[path] = content
        self.checksums[path] = hashlib.sha256(content).hexdigest() if checksum == "right" else checksum

    def fail(self, where: str, *failures: Failure) -> None:
        self.failures[where].extend(failures)

    def n_requests(self, part: str) -> int:
        return sum(part in request for request in self.requests)


def _handler(archive: Archive) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            archive.requests.append(f"{self.path} {self.headers.get('Range', '')}")
            address = urlsplit(self.path)
            parts = [unquote(part) for part in address.path.strip("/").split("/")]
            kind = "blob" if parts[0] == "blob" else "download" if parts[-1] == "download" else "api"
            failure = archive.failures[kind].popleft() if archive.failures[kind] else None
            if failure is not None and failure.status is not None:
                self._send(failure.status, failure.body or b"", failure.headers)
            elif kind == "blob":
                self._send_blob(parts[1], parse_qs(address.query), failure)
            elif kind == "download":
                number = parts[2]
                self._send(302, b"", {"Location": f"{archive.url}/blob/{number}?token={archive.token}"})
            elif failure is not None and failure.body is not None:
                self._send(200, failure.body)
            else:
                found = self._document(parts[1:], parse_qs(address.query))
                body = {"detail": "Not found."} if found is None else found
                self._send(404 if found is None else 200, json.dumps(body).encode())

        def _document(self, parts: list[str], query: dict[str, list[str]]) -> Any:
            if parts[:2] != ["dandisets", "000044"]:
                return None
            if len(parts) == 2:
                published = [v for v in archive.versions if v != "draft"]
                return {
                    "identifier": "000044",
                    "most_recent_published_version": {"version": published[-1]} if published else None,
                    "draft_version": {"version": "draft"},
                }
            if parts[2] != "versions" or parts[3] not in archive.versions:
                return None
            names = sorted(archive.files)
            if len(parts) == 5:
                prefix = query.get("path", [""])[0].lower()
                return self._page([n for n in names if n.lower().startswith(prefix)], query)
            name = names[int(parts[5])]
            digest = {} if archive.checksums[name] is None else {"dandi:sha2-256": archive.checksums[name]}
            size = len(archive.files[name]) + archive.wrong_size
            return {"path": name, "contentSize": size, "digest": {"dandi:dandi-etag": "x-1"} | digest}

        def _page(self, names: list[str], query: dict[str, list[str]]) -> dict[str, Any]:
            """Pages of two entries, so that following them is tested."""
            first = int(query.get("from", ["0"])[0])
            known = sorted(archive.files)
            entries = [
                {
                    "asset_id": str(known.index(name)),
                    "path": name,
                    "size": len(archive.files[name]),
                    "blob": None if name in archive.zarr else "b",
                    "zarr": "z" if name in archive.zarr else None,
                }
                for name in names[first : first + 2]
            ]
            more = first + 2 < len(names)
            address = f"{archive.url}{urlsplit(self.path).path}?from={first + 2}"
            return {"count": len(names), "next": address if more else None, "previous": None, "results": entries}

        def _send_blob(self, number: str, query: dict[str, list[str]], failure: Failure | None) -> None:
            if archive.on_blob is not None:
                archive.on_blob()
            if query["token"] != [archive.token]:
                self._send(403, b"<Error><Code>AccessDenied</Code></Error>")
                return
            content = archive.files[sorted(archive.files)[int(number)]]
            start, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            part = content[int(start) : int(last) + 1]
            headers = {"Content-Range": f"bytes {start}-{last}/{len(content)}"}
            if archive.etag is not None:
                headers["ETag"] = archive.etag
            stalled = failure is not None and failure.stalled_after is not None
            cut = None if failure is None else failure.stalled_after if stalled else failure.cut_after
            archive.sent += len(part if cut is None else part[:cut])
            self._send(206 if archive.ranges_supported else 200, part, headers, cut)
            if stalled:
                archive.released.wait(timeout=30)

        def _send(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])

    return Handler


@contextmanager
def serve(archive: Archive) -> Iterator[Archive]:
    """Serve the archive on a free port of this machine.

    h5py holds its lock while it waits for the server. The garbage collector would wait for that lock if it removed
    objects of h5py in a thread of the server, so it is switched off.
    """
    server = _Server(("127.0.0.1", 0), _handler(archive))
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    gc.disable()
    try:
        yield archive
    finally:
        gc.enable()
        archive.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def write_hc11_session(path: Path, *, n_lfp: int = 2**20, rate: float = PERIOD, maze: str = "1.6mLinearMaze") -> Path:
    """Write a session in the layout of DANDI:000044, with `n_lfp` samples of a raw signal."""
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.behavior import Position, SpatialSeries
    from pynwb.ecephys import LFP, ElectricalSeries
    from pynwb.epoch import TimeIntervals
    from pynwb.file import Subject

    rng = np.random.default_rng(0)
    nwb = NWBFile(
        "rest and running",
        "Achilles_10252013",
        datetime(2013, 10, 25, tzinfo=UTC),
        session_id="Achilles_10252013",
        lab="Buzsaki",
        institution="NYU",
        experimenter=["Grosmark, Andres"],
        subject=Subject(subject_id="Achilles", species="Rattus norvegicus", sex="M", age="P100D"),
    )
    device = nwb.create_device("silicon probe")
    shank = nwb.create_electrode_group("shank1", "a shank", "CA1", device)
    nwb.add_electrode(location="CA1", group=shank)
    region = nwb.create_electrode_table_region([0], "all electrodes")
    signal = rng.integers(-1000, 1000, (n_lfp, 1), dtype=np.int16)
    lfp = ElectricalSeries(name="LFP", data=signal, electrodes=region, starting_time=0.0, rate=1250.0)
    nwb.create_processing_module("ecephys", "raw").add(LFP(electrical_series=lfp))
    for column in ("cell_type", "location", "shank_id"):
        nwb.add_unit_column(column, f"{column} of the unit")
    for unit in range(6):
        nwb.add_unit(
            spike_times=np.sort(rng.uniform(0.0, 400.0, 500)),
            cell_type="inhibitory" if unit == 5 else "excitatory",
            location="lCA1" if unit % 2 else "rCA1",
            shank_id=unit,
            electrode_group=shank,
            electrodes=[0],
            waveform_mean=np.zeros(8),
        )
    n = int((MAZE[1] - MAZE[0]) / PERIOD)
    linear = 0.8 + 0.8 * np.sin(np.arange(n) * PERIOD)
    xy = np.column_stack([linear, np.full(n, 0.1)])
    off_track = np.where(np.arange(n) % 10 == 0, linear, np.nan)[:, None]
    common = {"starting_time": MAZE[0], "rate": rate, "unit": "meters", "reference_frame": "the track"}
    behavior = nwb.create_processing_module("behavior", "position")
    for kind, name, data in (("", "SpatialSeries", xy), ("Linearized", "LinearizedTimeSeries", off_track)):
        series = SpatialSeries(name=f"{maze}{name}", data=data, description="position", **common)
        behavior.add(Position(name=f"{maze}{kind}Position", spatial_series=series))
    states = TimeIntervals(name="states", description="sleep states")
    states.add_column("label", "state")
    for start, label in ((0.0, "Wake"), (50.0, "NREM"), (120.0, "REM")):
        states.add_interval(start_time=start, stop_time=start + 40.0, label=label)
    behavior.add(states)
    nwb.add_epoch_column("label", "name of the epoch")
    for start, stop, label in ((0.0, 200.0, "PREEpoch"), (*MAZE, "MazeEpoch"), (300.0, 400.0, "POSTEpoch")):
        nwb.add_epoch(start_time=start, stop_time=stop, label=label)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path

"""HTTP requests that are repeated after temporary failures.

Only the standard library is used: proxies from the environment, redirects and certificates work as in every Python
program, and nothing has to be installed.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kalmanssl.errors import DownloadError

__all__ = ["HttpClient", "Location", "StatusError"]

T = TypeVar("T")
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_EXPIRED = {400, 401, 403, 404, 410}  # answers to a signed address that is no longer valid
_UNREACHABLE = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETRESET}
_LONGEST_WAIT = 120.0
_PIECE = 2**16


class StatusError(DownloadError):
    """The server refuses a request, and repeating it does not help.

    Parameters
    ----------
    message : str
    status : int
        Status code of HTTP.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Location:
    """Address of a remote file.

    Attributes
    ----------
    url : str
        Permanent address; it may redirect.
    size : int
        Bytes.
    direct : str or None
        Address that `url` redirected to. It can expire.
    etag : str or None
        Identifier of the content, from the first answer.
    """

    url: str
    size: int
    direct: str | None = None
    etag: str | None = None


def pause(seconds: float) -> None:
    """Sleep; tests replace this function."""
    time.sleep(seconds)


class HttpClient:
    """Client that repeats requests after temporary failures, with increasing pauses.

    Parameters
    ----------
    attempts : int
        Number of failures in a row after which it gives up.
    timeout : float
        Seconds without data after which a connection counts as cut.
    logger : callable, optional
        Receives a line before each repetition.
    """

    def __init__(self, attempts: int = 6, timeout: float = 30.0, logger: Callable[[str], None] | None = None) -> None:
        self._attempts = attempts
        self._timeout = timeout
        self._logger = logger
        self._connected = False

    def get_json(self, url: str) -> dict[str, Any]:
        """Return the JSON object at an address.

        Raises
        ------
        StatusError
            If the server refuses the request, such as with 404.
        DownloadError
            If the server cannot be reached, fails repeatedly, or does not send JSON.
        """

        def attempt() -> bytes:
            with self._open(url, {"Accept": "application/json"}) as response:
                return response.read()

        body = self._repeat(attempt, lambda: url, lambda: 0)
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise DownloadError(
                f"{urlsplit(url).netloc} does not answer with JSON: check the address of the archive, and whether a "
                "login page of the network is in between"
            )
        return found

    def get_range(self, location: Location, start: int, stop: int, receive: Callable[[bytes], None]) -> None:
        """Read the bytes from `start` to `stop` (exclusive); after a cut, continue with the next missing byte.

        Parameters
        ----------
        location : Location
            Its `direct` and `etag` are updated.
        start, stop : int
        receive : callable
            Called with each piece, in order.

        Raises
        ------
        StatusError, DownloadError
            As in `get_json`, and if the server does not support ranges or the file has changed.
        """
        position = start

        def attempt() -> None:
            nonlocal position
            with self._open_current(location, position, stop) as response:
                _check_range(response, location, position)
                while position < stop:
                    piece = response.read(min(_PIECE, stop - position))
                    if not piece:
                        raise http.client.IncompleteRead(b"", stop - position)
                    receive(piece)
                    position += len(piece)

        self._repeat(attempt, lambda: location.direct or location.url, lambda: position)

    def _open_current(self, location: Location, start: int, stop: int) -> Any:
        """Open the direct address if it is known; if it has expired, the permanent one."""
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if location.direct is not None:
            try:
                return self._open(location.direct, headers)
            except urllib.error.HTTPError as error:
                if error.code not in _EXPIRED:
                    raise
                location.direct = None
        response = self._open(location.url, headers)
        location.direct = response.geturl()
        return response

    def _open(self, url: str, headers: dict[str, str]) -> Any:
        """Send one request."""
        request = urllib.request.Request(url, headers={"User-Agent": _user_agent(), **headers})
        response = urllib.request.urlopen(request, timeout=self._timeout)
        self._connected = True
        return response

    def _repeat(self, attempt: Callable[[], T], address: Callable[[], str], progress: Callable[[], int]) -> T:
        """Repeat `attempt` until it succeeds; failures are counted from the last progress on.

        `address` gives the address that is requested, for messages.
        """
        failures, reached = 0, progress()
        while True:
            try:
                return attempt()
            except (OSError, http.client.HTTPException) as error:
                if not _is_network_error(error):
                    raise
                if progress() > reached:
                    failures, reached = 0, progress()
                failures += 1
                wait = self._wait_after(error, address(), failures)
                self._log(f"note: {_cause(error, address())}; trying again in {wait:.3g} s")
                pause(wait)

    def _wait_after(self, error: Exception, url: str, failures: int) -> float:
        """Return the pause before the next attempt, seconds; raise if another one does not help."""
        cause = _cause(error, url)
        asked = None
        if isinstance(error, urllib.error.HTTPError):
            if error.code not in _TEMPORARY:
                raise StatusError(f"{cause}: {_way_out(error.code)}", error.code) from error
            asked = _retry_after(error.headers.get("Retry-After"))
        elif not self._connected and _never_reached(error):
            raise DownloadError(
                f"{cause}: check the network connection, the proxy and the address of the archive"
            ) from error
        if failures >= self._attempts:
            raise DownloadError(f"{cause}, {failures} times in a row: try again later") from error
        if asked is not None and asked > _LONGEST_WAIT:
            raise DownloadError(f"{cause} and asks to wait {asked:.0f} s: try again after that time") from error
        return 2.0 ** (failures - 1) if asked is None else asked

    def _log(self, line: str) -> None:
        if self._logger is not None:
            self._logger(line)


def _user_agent() -> str:
    """Return the name and version of this package."""
    try:
        return f"kalmanssl/{version('kalmanssl')}"
    except PackageNotFoundError:
        return "kalmanssl"


def _is_network_error(error: Exception) -> bool:
    """Tell errors of the network from those of the disk, which are OSErrors, too."""
    network = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
    return isinstance(error, network) or (isinstance(error, OSError) and error.errno in _UNREACHABLE)


def _never_reached(error: Exception) -> bool:
    """Return whether an error means that there is no network, no such server, or no trust in its certificate."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError):
        return True
    return isinstance(reason, OSError) and reason.errno in _UNREACHABLE


def _cause(error: Exception, url: str) -> str:
    """Return what failed, as the first part of a message."""
    host = urlsplit(url).netloc
    if isinstance(error, urllib.error.HTTPError):
        return f"{host} answers {error.code} ({error.reason})"
    reason = getattr(error, "reason", error)
    if isinstance(reason, socket.gaierror):
        return f"the name {host} cannot be resolved"
    if isinstance(reason, ConnectionRefusedError):
        return f"{host} refuses the connection"
    if isinstance(reason, TimeoutError):
        return f"{host} does not answer in time"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not accepted ({reason.verify_message})"
    if isinstance(reason, http.client.HTTPException | ConnectionError):
        return f"the connection to {host} was cut"
    return f"{host} cannot be reached ({reason})"


def _way_out(status: int) -> str:
    """Return how to correct a request that was refused."""
    if status in (401, 403):
        return "the data are not public (embargoed), or the network blocks the request"
    if status == 404:
        return "there are no data at this address"
    return "check the address of the archive"


def _retry_after(value: str | None) -> float | None:
    """Return the seconds to wait that the server asks for: a number or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds()) if until.tzinfo else None


def _check_range(response: Any, location: Location, start: int) -> None:
    """Check that the answer is the requested part of the same file as before."""
    host = urlsplit(location.url).netloc
    if response.status != 206:
        raise DownloadError(
            f"{host} does not support range requests (it answers {response.status}): download the whole file with "
            "another program and read it from disk"
        )
    served, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if total not in ("*", str(location.size)):
        raise DownloadError(
            f"{host} has a file of {total or 'unknown'} bytes, but the archive lists {location.size} bytes: the entry "
            "in the archive is damaged; choose another version"
        )
    if served.partition("-")[0] != str(start):
        raise DownloadError(f"{host} answers with another range than requested ({served}): try again later")
    etag = response.headers.get("ETag")
    if location.etag is not None and etag is not None and etag != location.etag:
        raise DownloadError(f"the file at {host} changed while it was read: run the same command again")
    location.etag = location.etag or etag

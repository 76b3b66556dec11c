"""Assets of a DANDI archive, found with its REST API (https://api.dandiarchive.org)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from kalmanssl.datasets.dandi._http import HttpClient, Location, StatusError
from kalmanssl.errors import DownloadError, InputError

__all__ = ["API", "Asset", "find_asset", "list_assets", "parse_dandiset"]

API = "https://api.dandiarchive.org/api"
"""Address of the interface of the DANDI archive."""

_SHOWN = 12


@dataclass(frozen=True)
class Asset:
    """A file of a dandiset.

    Attributes
    ----------
    dandiset : str
        Six digits.
    version : str
        Such as "0.250624.0426" or "draft".
    path : str
        Path within the dandiset.
    asset_id : str
        Identifier of this content.
    size : int
        Bytes.
    sha256 : str or None
        Checksum of the whole file, if the archive has computed it.
    url : str
        Address of the content.
    """

    dandiset: str
    version: str
    path: str
    asset_id: str
    size: int
    sha256: str | None
    url: str

    @property
    def name(self) -> str:
        """Dandiset, version and path, such as "DANDI:000044/draft/sub-A/a.nwb"."""
        return f"DANDI:{self.dandiset}/{self.version}/{self.path}"

    def location(self) -> Location:
        """Return the address for range requests."""
        return Location(self.url, self.size)


def parse_dandiset(dandiset: str, version: str | None = None) -> tuple[str, str | None]:
    """Return the six digits of a dandiset, and the version if one is given.

    Parameters
    ----------
    dandiset : str
        Such as "000044", "DANDI:000044" or "DANDI:000044/0.250624.0426".
    version : str, optional

    Raises
    ------
    InputError
        If it has another form, or names another version than `version`.
    """
    match = re.fullmatch(r"(?:DANDI:)?(\d{6})(?:/([^/\s]+))?", dandiset.strip(), re.IGNORECASE)
    if match is None:
        raise InputError(
            f"dandiset must be six digits, such as 000044 or DANDI:000044/draft; got {dandiset!r}",
            parameter="dandiset",
        )
    if match[2] and version and match[2] != version:
        raise InputError(f"{dandiset} names another version than version={version!r}: give one", parameter="version")
    return match[1], match[2] or version


def find_asset(
    dandiset: str, path: str, version: str | None = None, *, api: str = API, client: HttpClient | None = None
) -> Asset:
    """Find an asset by its path.

    Parameters
    ----------
    dandiset : str
        Such as "000044" or "DANDI:000044/0.250624.0426".
    path : str
        Path within the dandiset, such as "sub-A/sub-A_behavior+ecephys.nwb".
    version : str, optional
        The default is the newest published version, or the draft if nothing is published.
    api : str
        Address of the API of the archive.
    client : HttpClient, optional

    Returns
    -------
    Asset

    Raises
    ------
    InputError
        If the dandiset, the version or the asset does not exist; the message lists what exists.
    DownloadError
        If the archive cannot be reached.
    """
    client = client or HttpClient()
    number, version = parse_dandiset(dandiset, version)
    version = version or _default_version(number, api, client)
    listed = list_assets(number, version, path, api=api, client=client)
    found = next((entry for entry in listed if entry.get("path") == path), None)
    if found is None:
        others = [entry.get("path", "") for entry in list_assets(number, version, "", api=api, client=client)]
        raise InputError(f"DANDI:{number}/{version} has no asset {path!r}: {_suggest(path, others)}", parameter="path")
    if found.get("zarr"):
        raise InputError(f"{path} is a Zarr store; only assets in HDF5 can be read", parameter="path")
    asset_id = str(found["asset_id"])
    metadata = client.get_json(f"{_version_url(api, number, version)}/assets/{asset_id}/")
    size = metadata.get("contentSize", found.get("size"))
    if not isinstance(size, int) or size <= 0:
        raise DownloadError(f"the archive does not state the size of {path}: choose another version")
    return Asset(
        dandiset=number,
        version=version,
        path=path,
        asset_id=asset_id,
        size=size,
        sha256=(metadata.get("digest") or {}).get("dandi:sha2-256"),
        url=f"{_base(api)}/assets/{asset_id}/download/",
    )


def list_assets(
    dandiset: str, version: str, prefix: str = "", *, api: str = API, client: HttpClient | None = None
) -> list[dict[str, Any]]:
    """List the assets of a version whose paths begin with `prefix`, without regard to case.

    Returns
    -------
    list of dict
        Entries of the API, with "asset_id", "path", "size" and "zarr".

    Raises
    ------
    InputError
        If the dandiset or the version does not exist.
    DownloadError
        If the archive cannot be reached.
    """
    client = client or HttpClient()
    query = {"page_size": 1000} | ({"path": prefix} if prefix else {})
    address: str | None = f"{_version_url(api, dandiset, version)}/assets/?{urlencode(query)}"
    entries: list[dict[str, Any]] = []
    while address:
        try:
            page = client.get_json(address)
        except StatusError as error:
            raise _named(error, f"DANDI:{dandiset} has no version {version!r}", "version") from error
        entries += page.get("results", [])
        address = page.get("next")
    return entries


def _default_version(dandiset: str, api: str, client: HttpClient) -> str:
    """Return the newest published version, or "draft"."""
    try:
        entry = client.get_json(f"{_base(api)}/dandisets/{dandiset}/")
    except StatusError as error:
        raise _named(error, f"the archive at {_base(api)} has no dandiset {dandiset}", "dandiset") from error
    published = entry.get("most_recent_published_version") or {}
    return str(published.get("version", "draft"))


def _named(error: StatusError, missing: str, parameter: str) -> InputError:
    """Return the error for something that does not exist; other errors stay as they are."""
    if error.status != 404:
        return error
    return InputError(f"{missing} (or it does not exist for the public): check the name", parameter=parameter)


def _suggest(path: str, others: Iterable[str]) -> str:
    """Return a hint with the closest path, or the first paths."""
    paths = sorted(others)
    close = get_close_matches(path, paths, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    shown = ", ".join(paths[:_SHOWN]) + (f", ... ({len(paths)} assets)" if len(paths) > _SHOWN else "")
    return f"its assets: {shown or 'none'}"


def _base(api: str) -> str:
    """Return the address of the API without a slash at its end."""
    if urlsplit(api).scheme not in ("http", "https"):
        raise InputError(f"api must be an address that begins with https://; got {api!r}", parameter="api")
    return api.rstrip("/")


def _version_url(api: str, dandiset: str, version: str) -> str:
    return f"{_base(api)}/dandisets/{dandiset}/versions/{quote(version, safe='')}"

"""Fetching of the part of a remote NWB file that decoding needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kalmanssl.data.nwb import Content, content_size, decode_text, read_content, write_content
from kalmanssl.datasets.dandi._api import API, Asset, find_asset
from kalmanssl.datasets.dandi._block_store import BLOCK, BlockStore
from kalmanssl.datasets.dandi._http import HttpClient
from kalmanssl.datasets.dandi._remote_file import RemoteFile
from kalmanssl.errors import DownloadError, InputError, first_line

if TYPE_CHECKING:
    import h5py

__all__ = ["Fetched", "fetch"]

_WHOLE = 2**25  # assets of up to this size, bytes, are read whole and compared with their checksum


@dataclass(frozen=True)
class Fetched:
    """What `fetch` wrote.

    Attributes
    ----------
    path : Path
        The NWB file.
    asset : Asset
        Where it is from.
    n_units, n_spikes : int
    behavior : tuple of str
        Names of the containers of positions, or of other series.
    tables : tuple of str
        Tables of intervals.
    epochs : tuple of str
        Labels of the epochs.
    notes : tuple of str
        What was corrected or left out.
    n_bytes : int
        Bytes of the asset that were read.
    """

    path: Path
    asset: Asset
    n_units: int
    n_spikes: int
    behavior: tuple[str, ...]
    tables: tuple[str, ...]
    epochs: tuple[str, ...]
    notes: tuple[str, ...]
    n_bytes: int


def fetch(
    dandiset: str,
    path: str,
    out: str | os.PathLike[str],
    *,
    version: str | None = None,
    overwrite: bool = False,
    api: str = API,
    client: HttpClient | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    logger: Callable[[str], None] | None = None,
) -> Fetched:
    """Read units, behavior and intervals of an NWB file in a DANDI archive, and write them to a small NWB file.

    Only the parts of the remote file that are needed are read, with HTTP range requests. An interrupted fetch is
    continued when it is called again with the same `out`; until then, what was read is kept in ``.OUT.part`` beside it.
    Assets of at most 32 MiB are read whole and compared with the checksum of the archive.

    Parameters
    ----------
    dandiset : str
        Such as "000044" or "DANDI:000044/0.250624.0426".
    path : str
        Path of the asset within the dandiset, such as "sub-A/sub-A_behavior+ecephys.nwb".
    out : path
        File to write.
    version : str, optional
        The default is the newest published version, or the draft if nothing is published.
    overwrite : bool
        Replace an existing file when the new one is complete.
    api : str
        Address of the API of the archive.
    client : HttpClient, optional
        Sends the requests.
    on_progress : callable, optional
        Called with the number of bytes read and the expected total.
    logger : callable, optional
        Receives lines about the asset and about repeated requests.

    Returns
    -------
    Fetched

    Raises
    ------
    InputError
        If the asset does not exist or has no usable data, or `out` exists or cannot be written.
    DownloadError
        If the archive cannot be reached or sends wrong data.
    KeyboardInterrupt
        If interrupted; the message says how to continue.
    """
    target = Path(out)
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists: choose another file, or replace it (--overwrite)", parameter="out")
    client = client or HttpClient(logger=logger)
    asset = find_asset(dandiset, path, version, api=api, client=client)
    if logger is not None:
        logger(f"{asset.name}, {asset.size / 1e6:.4g} MB")
    return _fetch_asset(asset, target, overwrite, client, on_progress)


def _fetch_asset(
    asset: Asset,
    target: Path,
    overwrite: bool,
    client: HttpClient,
    on_progress: Callable[[int, int], None] | None,
) -> Fetched:
    """Read an asset through a file of blocks beside the target, which is removed when the target is complete."""
    partial = target.with_name(f".{target.name}.part")
    try:
        store = BlockStore(partial, asset.asset_id, asset.size)
    except OSError as error:
        raise InputError(
            f"cannot write to {partial.parent}: {error.strerror}; choose another folder", parameter="out"
        ) from error
    try:
        content = _read(asset, client, store, on_progress)
        source = f"extract of {asset.name}, asset {asset.asset_id}, written by kalmanssl"
        write_content(content, target, source, overwrite)
        n_bytes = store.n_bytes
        store.remove()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; what was read is kept in {partial}: run the same command again to continue"
        ) from None
    finally:
        store.close()
    return _summary(target, asset, content, n_bytes)


def _read(
    asset: Asset, client: HttpClient, store: BlockStore, on_progress: Callable[[int, int], None] | None
) -> Content:
    """Read the content of the asset through the store."""
    expected = 0

    def report() -> None:
        if on_progress is not None:
            on_progress(store.n_bytes, min(max(expected, store.n_bytes), asset.size))

    remote = RemoteFile(asset.location(), client, store, report)
    try:
        if asset.sha256 is not None and asset.size <= _WHOLE:
            expected = asset.size
            _check_whole(remote, asset, store)
        with _opened(remote, asset) as file:
            expected = max(expected, store.n_bytes + content_size(file) + BLOCK)
            content = read_content(file)
        expected = store.n_bytes
        report()
        return content
    except InputError as error:
        if not isinstance(error, DownloadError):  # the asset is of no use, so there is nothing to continue
            store.remove()
        raise
    except OSError as error:
        raise InputError(
            f"cannot write to {store.path}: {error.strerror or error}; free some space or choose another folder, and "
            "run the same command again to continue",
            parameter="out",
        ) from error


def _check_whole(remote: RemoteFile, asset: Asset, store: BlockStore) -> None:
    """Compare the checksum of the whole asset with that of the archive; what was read is removed if they differ."""
    found = remote.sha256()
    if found != asset.sha256:
        store.remove()
        raise DownloadError(
            f"{asset.path} is damaged: its SHA-256 is {found[:12]}..., the archive lists {str(asset.sha256)[:12]}...; "
            "run the same command again, and if this persists choose another version"
        )


@contextmanager
def _opened(remote: RemoteFile, asset: Asset) -> Iterator[h5py.File]:
    """Open a remote NWB file; errors of the download come before those that HDF5 derives from them."""
    import h5py

    try:
        with h5py.File(remote, "r") as file:
            kind = decode_text(file.attrs.get("neurodata_type", ""))
            if kind != "NWBFile":
                raise InputError(f"{asset.path} is HDF5 but not an NWB 2 file: choose another asset", parameter="path")
            yield file
    except Exception as error:
        if remote.error is None and isinstance(error, InputError):
            raise
        if remote.error is None:
            raise InputError(
                f"{asset.path} is not an NWB file in HDF5, or is damaged ({first_line(error)}): choose another asset",
                parameter="path",
            ) from error
    if remote.error is not None:
        # Outside of `except` and removed from the file, so that no object of h5py is kept by the error.
        failure, remote.error = remote.error, None
        raise failure


def _summary(target: Path, asset: Asset, content: Content, n_bytes: int) -> Fetched:
    epochs = content.tables.get("epochs")
    labels = epochs.columns.get("label") if epochs is not None else None
    return Fetched(
        path=target,
        asset=asset,
        n_units=len(content.units.ids),
        n_spikes=len(content.units.columns["spike_times"].values),
        behavior=tuple(series.where.label for series in content.series),
        tables=tuple(content.tables),
        epochs=() if labels is None else tuple(map(str, labels.values)),
        notes=content.notes,
        n_bytes=n_bytes,
    )

"""Log power of a local field potential in frequency bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data._binning import sampling_period
from kalmanssl.data._sample_bins import SampleBins
from kalmanssl.data.nwb._access import find, is_numeric, location, read_array, read_scaling, require_dataset
from kalmanssl.data.nwb._activity_sources import ActivitySource
from kalmanssl.data.nwb._sampled_activity import read_sample_times
from kalmanssl.data.nwb._series_columns import Columns, choose_columns
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import gap_starts
from kalmanssl.utils.text import shorten

if TYPE_CHECKING:
    import h5py

__all__ = ["BANDS", "BandPower", "read_band_power"]

BANDS = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 12.0),
    "beta": (12.0, 30.0),
    "low_gamma": (30.0, 60.0),
    "high_gamma": (60.0, 120.0),
}
"""Default frequency bands, Hz."""
_HIGHEST_RATE = 5000.0  # Hz; faster series are raw signals that were not filtered to field potentials
_ORDER = 2


@dataclass(frozen=True)
class BandPower:
    """A field potential whose log power in bands is computed when the bins are known.

    Attributes
    ----------
    path : str
        Path of the series in the file.
    data : h5py.Dataset
        (samples, channels); its file must be open.
    rows : (samples,)
        Rows of the data.
    times : (samples,)
        Increasing, seconds.
    usable : (samples,) bool
    period : float
        Sampling period, seconds.
    columns : Columns
        Channels.
    bands : dict of (low, high)
        Hz.
    notes, corrections : list of str
    """

    path: str
    data: h5py.Dataset
    rows: np.ndarray
    times: np.ndarray
    usable: np.ndarray
    period: float
    columns: Columns
    bands: dict[str, tuple[float, float]]
    notes: list[str]
    corrections: list[str]
    kind = "signal"
    cell_type = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names "channel/band"."""
        return tuple(f"{channel}/{band}" for channel in self.columns.names for band in self.bands)

    def in_bins(self, bins: SampleBins) -> np.ndarray:
        """Return the log of the mean power (bins, channels * bands).

        The signal passes a Butterworth band-pass filter of second order that uses only the past (`scipy.signal.butter`
        and `sosfilt`) and starts again after each gap. Its square is averaged in each bin.
        """
        from scipy.signal import butter, sosfilt

        filters = [butter(_ORDER, band, "bandpass", fs=1 / self.period, output="sos") for band in self.bands.values()]
        pieces = np.split(np.arange(len(self.times)), gap_starts(self.times, self.period))
        result = np.empty((len(bins.time), len(self.names)), dtype=np.float32)
        for i, number in enumerate(self.columns.numbers):
            signal = _channel(self.data, self.rows, int(number))
            if not np.isfinite(signal).all():
                raise InputError(
                    f"series {self.path} has NaN or infinite values in channel {self.columns.names[i]}; "
                    "select other channels by units",
                    parameter="units",
                )
            for j, sos in enumerate(filters):
                power = np.concatenate([sosfilt(sos, signal[part] - signal[part[0]]) ** 2 for part in pieces])
                mean = bins.means(power)
                floor = 1e-6 * mean.mean() or 1.0  # a silent bin has a finite log
                result[:, i * len(filters) + j] = np.log(np.maximum(mean, floor))
        return result


def _channel(data: h5py.Dataset, rows: np.ndarray, number: int) -> np.ndarray:
    """Return one channel (samples,) in its unit."""
    values = read_array(data) if data.ndim == 1 else read_array(data, (slice(None), number))
    return values.astype(float)[rows] * read_scaling(data)[0]


def read_band_power(
    file: h5py.File,
    source: ActivitySource,
    units: str | Mapping[str, Any],
    extent: tuple[float, float] | None,
    bands: Mapping[str, tuple[float, float]] | None,
) -> BandPower:
    """Prepare the band power of a field potential; see `BandPower.in_bins`.

    Raises
    ------
    InputError
        If the series is sampled too fast to be a field potential, or a band is not below half the sampling rate.
    """
    series = find(file, source.path)
    times, rows, corrections = read_sample_times(series, extent)
    period = sampling_period(times)
    rate = 1 / period
    if rate > _HIGHEST_RATE:
        raise InputError(
            f"series {source.path} is sampled at {rate:.4g} Hz, so it is a raw signal; filter and resample it to a "
            f"field potential of at most {_HIGHEST_RATE:g} Hz, or sort its spikes",
            parameter="activity",
        )
    data = require_dataset(series, "data")
    if not is_numeric(data):
        raise InputError(f"{location(data)} must be numbers; choose another series")
    read_scaling(data)
    if data.ndim > 2:
        raise InputError(f"series {source.path} has shape {data.shape}; a field potential must be (time, channels)")
    columns = choose_columns(series, source, units, 1 if data.ndim == 1 else data.shape[1])
    usual = {name: band for name, band in BANDS.items() if band[1] <= 0.45 * rate}
    chosen = usual if bands is None else dict(bands)
    wrong = [name for name, (low, high) in chosen.items() if not 0 < low < high < 0.5 * rate]
    if wrong or not chosen:
        given = ", ".join(f"{name} {chosen[name][0]:g} to {chosen[name][1]:g}" for name in wrong) or "none"
        raise InputError(
            f"bands must be LOW to HIGH within 0 and {0.5 * rate:.4g} Hz, half the sampling rate of {source.path}; "
            f"got {shorten(given)}",
            parameter="bands",
        )
    listing = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in chosen.items())
    notes = [f"{source.path}: log power in bands, Hz: {listing}", *columns.notes]
    return BandPower(
        path=source.path,
        data=data,
        rows=rows,
        times=times,
        usable=np.ones(len(times), dtype=bool),
        period=period,
        columns=columns,
        bands=chosen,
        notes=notes,
        corrections=corrections,
    )

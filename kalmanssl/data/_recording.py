"""Recordings: binned activity of many units, or a multichannel signal, with time and behavior."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from kalmanssl.data._alignment import AlignMixin
from kalmanssl.data._bin_selection import BinSelection
from kalmanssl.data._labeled_input import labels_of
from kalmanssl.data._pynapple import read_activity
from kalmanssl.data._recording_summary import RecordingSummary
from kalmanssl.data._reshaping import Reshaping
from kalmanssl.data._validation import (
    check_activity,
    check_behavior,
    check_epochs,
    check_names,
    check_session,
    check_time,
    check_units,
)
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import segment_slices
from kalmanssl.utils.validation import short_repr

__all__ = ["Recording"]


@dataclass(frozen=True, eq=False, repr=False)
class Recording(BinSelection, Reshaping, AlignMixin, RecordingSummary):
    """Activity in bins of equal width, with time and behavior.

    Create it with `from_nwb`, `from_arrays` or `from_pynapple`. Indexing with a slice, an index array or a boolean mask
    over time selects bins.

    Attributes
    ----------
    activity : (time, units) float32
        Event counts per bin, or samples of a real-valued signal if `kind` is "signal".
    time : (time,)
        Bin centers in the clock of the recording, seconds, increasing. There can be gaps, see `segments`.
    bin_size : float
        Width of a bin, seconds.
    unit_ids : tuple of str
        Name of each unit or channel. A fitted model only accepts recordings with the same names.
    behavior : dict of (time,) or (time, dims)
        Behavior at the bin centers, NaN where it is unknown. Labels, such as text or bools, are (time,) objects with
        None where they are unknown.
    behavior_unit : dict of str
        Unit of measurement of each behavior, as given in the file; empty if unknown.
    epochs : dict of (n, 2)
        Start and stop times of labeled epochs and of the tables of intervals of an NWB file, such as "trials", seconds,
        for the whole session.
    spike_times : tuple of (spikes,), or None
        Sorted times of the counted spikes of each unit, seconds; None if only counts or a signal are known.
    cell_type : tuple of str, or None
        Cell type of each unit, if known.
    kind : {"counts", "signal"}
        Whether `activity` holds event counts (not negative) or a real-valued signal.
    source : str
        Name of the file, or "arrays".
    notes : tuple of str
        Choices and corrections made while reading the file.
    session : str
        Name of the session, or "". `KalmanSSL.fit` takes recordings with different names as sessions whose units are
        unrelated, and recordings with the same name as trials. A file gives its identifier.
    """

    activity: np.ndarray
    time: np.ndarray
    bin_size: float
    unit_ids: tuple[str, ...]
    behavior: dict[str, np.ndarray] = field(default_factory=dict)
    behavior_unit: dict[str, str] = field(default_factory=dict)
    epochs: dict[str, np.ndarray] = field(default_factory=dict)
    spike_times: tuple[np.ndarray, ...] | None = None
    cell_type: tuple[str, ...] | None = None
    kind: Literal["counts", "signal"] = "counts"
    source: str = "arrays"
    notes: tuple[str, ...] = ()
    session: str = ""

    @classmethod
    def from_nwb(
        cls,
        path: str | os.PathLike[str],
        bin_size: float | None = None,
        units: str | Mapping[str, Any] = "auto",
        behavior: str | Sequence[str] | Mapping[str, str] | Literal[False] | None = None,
        epoch: str | None = None,
        random_state: int | None = 0,
        activity: str | None = None,
        bands: Mapping[str, tuple[float, float]] | None = None,
        session: str | None = None,
    ) -> Recording:
        """Read a recording from an NWB file (version 2, HDF5). Only what is needed is read.

        The activity consists of spikes in the units table, traces of ROIs (`RoiResponseSeries` in `Fluorescence` or
        `DfOverF`), a `TimeSeries` of rates, counts or dF/F (time, units), fiber photometry, band power
        (`DecompositionSeries`), or a local field potential (`ElectricalSeries`). `kalmanssl.data.summarize_nwb` shows
        what a file has.

        The bins cover the time where the behavior is tracked, from its first to its last known sample, inside the
        epoch and inside the time that the units were observed (`obs_intervals`), if the file has these. Without
        behavior they cover the time between the first and the last spike or sample. `invalid_times` of the file are
        left out. `notes` lists what was left out.

        Spike times that were rounded to a tick that does not divide the bin (10 ms ticks in 25 ms bins) would let bins
        of more and of fewer ticks alternate. Uniform noise of half a tick in both directions is added to them. If the
        bin is a multiple of the tick, they are not changed, and bins end halfway between two ticks.

        Sampled activity is averaged in each bin. Counts and amplitudes of events (not negative, with "count", "spike",
        "event" or "deconvolved" in the name or unit) are summed. No bin continues over a gap of the samples. The log
        power of a field potential is computed in each band with a causal Butterworth filter of second order. Imaging
        planes, each with a table of ROIs of its own in one container, are read together: each at the samples nearest
        to those of the first.

        Points of the extension ndx-pose, as of DeepLabCut, are unknown where their confidence is below 0.6.

        Parameters
        ----------
        path : path
            The file.
        bin_size : float, optional
            Width of a bin, seconds. The default is 0.025 for spikes, and for sampled activity the smallest multiple of
            its sampling period that is at least 0.025. Activity written by `to_nwb` has the bins of the file.
        units : "auto", "all" or dict of column to value or values
            "auto" leaves out what a column of the file marks as noise or as rejected, such as ``quality = noise``,
            ``KSLabel = noise``, ``Accepted = 0`` or ``valid_roi = False``. Of the others it selects the excitatory
            units if a column has the cell types, and leaves out sampled units with NaN. Multi-unit activity is used.
            "all" selects all. A dict selects the units for which a column of the
            table of units, ROIs or electrodes has (one of) the values: ``{"location": "lCA1", "shank_id": [1, 2]}``.
            Units without such a column are selected by that of their first electrode.
        behavior : None, str, list of str, dict, or False
            Series by the name of the series, of its container or its path in the file, or a column of a table of
            intervals by its name or as "trials/NAME"; series of text or bools and such columns are labels. The labels
            of an `IntervalSeries` are the numbers of its states, and "none" between the intervals. None takes the only
            series (a spatial series goes before any other, and the gaze and the pupil after all). The only spatial
            series is kept as "position", others under their names; a dict gives the names to keep them under:
            ``{"position": "mazeLinearizedPosition"}``. The first one says which time is tracked. False or "none" reads
            none.
        epoch : str, optional
            Read only the time of the epoch or epochs with this label, or of the intervals of the table of this name.
        random_state : int or None
            Seed of the noise that is added to rounded spike times; None gives different noise in every call.
        activity : str, optional
            The activity to read, by the name of the series ("Deconvolved"), of its container ("DfOverF") or its path
            in the file; "units" for spikes. The default is the units table, otherwise the only activity in the file. A
            field potential and the neuropil are read only if they are named.
        bands : dict of (low, high), optional
            Frequency bands of a field potential, Hz. The default is delta 1 to 4, theta 4 to 12, beta 12 to 30,
            low_gamma 30 to 60 and high_gamma 60 to 120, without the bands above 0.45 times the sampling rate.
            Other activity has no bands.
        session : str, optional
            Name of the session, by default the identifier of the file. Give files of one session the same name.

        Returns
        -------
        Recording

        Raises
        ------
        InputError
            If the file is missing, damaged or not an NWB file; a name is unknown or ambiguous (the message lists the
            names in the file); there is no activity in the time of the bins; times do not increase; the number of
            columns differs from the number of ROIs; selected units have NaN; or the bins do not fit into the memory.

        Warns
        -----
        RecordingWarning
            If the file was corrected on reading, such as a sampling period that was stored as a rate, or units with
            NaN were left out.
        """
        from kalmanssl.data.nwb import ReadOptions, read_nwb

        name = None if session is None else check_session(session)
        fields = read_nwb(
            path,
            ReadOptions(
                bin_size=bin_size,
                units=units,
                behavior=behavior,
                epoch=epoch,
                random_state=random_state,
                activity=activity,
                bands=bands,
            ),
        )
        if name is not None:
            fields["session"] = name
        return cls(**fields)

    @classmethod
    def from_arrays(
        cls,
        activity: Any,
        time: Any = None,
        bin_size: float | None = None,
        behavior: Any = None,
        unit_ids: Sequence[Any] | None = None,
        behavior_unit: Mapping[str, str] | None = None,
        epochs: Mapping[str, Any] | None = None,
        cell_type: Sequence[str] | None = None,
        kind: Literal["counts", "signal"] = "counts",
        session: str = "",
    ) -> Recording:
        """Make a recording from arrays.

        Parameters
        ----------
        activity : (time, units) array, DataFrame or xarray.DataArray
            Spike counts, or any real-valued signal with `kind="signal"`. Units are named after the columns of a
            DataFrame, and an index named "time" has the bin centers; those of a DataArray are its coordinates.
        time : (time,), optional
            Bin centers, seconds, increasing. A step of more than 1.5 bins is a gap. By default the bins start at time
            zero without gaps.
        bin_size : float, optional
            Width of a bin, seconds. By default the median step of `time`, or 0.025 if `time` is not given.
        behavior : (time,) or (time, dims), or dict of these, optional
            Behavior at the bin centers, NaN where unknown. A single array is named "position". Text, bools and
            categories are labels: (time,), with None where unknown. Series of pynapple are interpolated to the bins.
        unit_ids : sequence, optional
            Names of the units; by default their column numbers.
        behavior_unit : dict of str, optional
            Unit of measurement for each behavior.
        epochs : dict of (2,) or (n, 2), optional
            Start and stop times by label, seconds.
        cell_type : sequence of str, optional
            Cell type of each unit.
        kind : {"counts", "signal"}
            "signal" allows negative values.
        session : str
            Name of the session; needed to fit several sessions.

        Returns
        -------
        Recording

        Raises
        ------
        InputError
            If shapes do not match, values are NaN, infinite or negative, times do not increase, or names are not
            unique.
        """
        own_time, own_names = labels_of(activity)
        time = own_time if time is None else time
        unit_ids = own_names if unit_ids is None else unit_ids
        values = check_activity(activity, kind)
        n_bins, n_units = values.shape
        centers, width = check_time(time, bin_size, n_bins)
        ids = check_names("unit_ids", range(n_units) if unit_ids is None else unit_ids, n_units)
        if len(set(ids)) != n_units:
            raise InputError(
                f"unit_ids must be {n_units} different names, one per column of activity; "
                f"got {len(ids)}, {len(set(ids))} of them different",
                parameter="unit_ids",
            )
        types = None if cell_type is None else check_names("cell_type", cell_type, n_units)
        unit_of = check_units(behavior_unit)
        tracked = check_behavior(behavior, centers, unit_of)
        stray = set(unit_of) - set(tracked)
        if stray:
            message = (
                f"behavior_unit has {short_repr(sorted(stray))}, "
                f"but behavior has {short_repr(sorted(tracked)) if tracked else 'nothing'}"
            )
            raise InputError(message, parameter="behavior_unit")
        return cls(
            activity=values,
            time=centers,
            bin_size=width,
            unit_ids=ids,
            behavior=tracked,
            behavior_unit=unit_of,
            epochs=check_epochs(epochs),
            cell_type=types,
            kind=kind,
            session=check_session(session),
        )

    @classmethod
    def from_pynapple(
        cls,
        activity: Any,
        bin_size: float | None = None,
        behavior: Any = None,
        *,
        time_support: Any = None,
        behavior_unit: Mapping[str, str] | None = None,
        epochs: Mapping[str, Any] | None = None,
        kind: Literal["counts", "signal"] | None = None,
        session: str = "",
    ) -> Recording:
        """Make a recording from objects of pynapple.

        Parameters
        ----------
        activity : TsGroup, Ts, TsdFrame or Tsd
            Spike times, which are counted in bins from the start of each interval of the time support, or a time series
            with one sample for each bin. Intervals that are further apart than half a bin are segments with a gap
            between them. Units are named after the keys of the group or the columns.
        bin_size : float, optional
            Width of a bin for spike times, seconds; by default 0.025. A time series has the median step of its samples.
        behavior : Tsd, TsdFrame, IntervalSet or (time,) array, or dict of these, optional
            A series is interpolated to the bin centers inside its time support, and is NaN elsewhere. Intervals are
            labels: whether a bin is inside, or the value of their only column of metadata. A single behavior is named
            "position".
        time_support : IntervalSet or (n, 2), optional
            Time to use, seconds; by default the time support of `activity`.
        behavior_unit : dict of str, optional
            Unit of measurement for each behavior. Angles in "rad" or "deg" take the nearest sample.
        epochs : dict of IntervalSet or (n, 2), optional
            Start and stop times by label, seconds.
        kind : {"counts", "signal"}, optional
            By default a time series is counts if its values are whole numbers of at least zero.
        session : str
            Name of the session; needed to fit several sessions.

        Raises
        ------
        InputError
            If there are no units, the time support leaves no bins, values are NaN, times are NaN or repeat, or the
            behavior does not overlap with the bins.
        """
        given = read_activity(activity, bin_size, time_support, kind)
        spike_times = given.pop("spike_times", None)
        labels = {"behavior": behavior, "behavior_unit": behavior_unit, "epochs": epochs}
        recording = cls.from_arrays(**given, **labels, session=session)
        return replace(recording, spike_times=spike_times, source="pynapple")

    def to_nwb(
        self,
        path: str | os.PathLike[str],
        overwrite: bool = False,
        metadata: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    ) -> None:
        """Write the recording as an NWB file that `from_nwb` reads back.

        Spike times go into the units table, "position" into `processing/behavior/Position/SpatialSeries`, angles in
        degrees or radians into `processing/behavior/CompassDirection`, other behavior into
        `processing/behavior/BehavioralTimeSeries`, epochs into the table of epochs with their `label`. A recording
        without spike times is written as a `TimeSeries` in `processing/binned`. Times without gaps are stored as a
        starting time and a rate. The name of the session is the identifier of the file. Units of positions and angles
        get their names in NWB, such as "centimeters" for "cm"; an unknown unit is "n.a." there and "unknown" elsewhere.
        The file is written under a temporary name and renamed when it is complete.

        Parameters
        ----------
        path : path
            The file to write.
        overwrite : bool
            Replace a file that exists.
        metadata : dict or path, optional
            Facts about the session that the recording does not have: arguments of `pynwb.NWBFile`, such as
            `session_start_time`, `experimenter` and `keywords`, and `subject`, a dict of arguments of
            `pynwb.file.Subject`. A path copies them from another NWB file. Without a subject, `nwbinspector` reports
            that it is missing.

        Raises
        ------
        InputError
            If the file exists and `overwrite` is False, it cannot be written, `metadata` has fields that NWB does not
            have, or the name of a behavior contains "/" or ":".
        """
        from kalmanssl.data.nwb import write_nwb

        write_nwb(self, path, overwrite, metadata)

    @property
    def n_units(self) -> int:
        """Number of units or channels."""
        return self.activity.shape[1]

    @property
    def duration(self) -> float:
        """Total duration of the bins without gaps, seconds."""
        return len(self.time) * self.bin_size

    def segments(self) -> list[slice]:
        """Return the segments of bins without a gap in time, in order, as slices into the first axis of `activity`."""
        return segment_slices(self.time, self.bin_size)

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        behavior = {
            name: ((f"{name}_dim",) if values.ndim == 2 else (), values) for name, values in self.behavior.items()
        }
        return {"activity": (("unit",), self.activity), **behavior}

    def _coordinates(self) -> dict[str, Any]:
        return {"unit": list(self.unit_ids)}

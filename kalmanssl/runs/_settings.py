"""Settings of a run, and the choices of units and frequency bands in them."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.stored_values import StoredValues, is_number, is_texts
from kalmanssl.utils.validation import check_condition, unknown_name_error

__all__ = ["RunSettings", "are_windows", "parse_bands", "parse_units", "parse_windows"]


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run that the user chose; None selects the default of the library.

    Attributes
    ----------
    recording : str
        NWB file.
    until : float, optional
        Only the bins before this time are fitted. Seconds, in the clock of the recording.
    activity : str, optional
        Name of the activity to read. The default is the units table, or the only activity in the file.
    units : list of str
        The units to read, see `parse_units`.
    bands : list of str
        The frequency bands of a field potential, see `parse_bands`. Empty selects the default bands.
    behavior : str, optional
        Name of the series to decode, or "none". The default is the only position in the file, or else the only series.
    epoch : str, optional
        Label of the epoch to read. The default is the whole recording.
    windows : list of [start, stop]
        Only the bins in these windows are used, seconds; see `parse_windows`. Empty uses all.
    during : list of str
        Only the bins in the intervals of these tables or epochs are used. Empty uses all.
    min_rate : float, optional
        Only the units with at least so many events per second in the fitted part are used.
    bin_size : float, optional
        Seconds.
    end_zones : [float, float], optional
        The end zones of a linear track, in units of the behavior; see `kalmanssl.data.running_bins`.
    min_speed : float, optional
        The animal runs where it is faster than this, in units of the behavior per second. Instead of `end_zones`.
    period : float, optional
        Period of a circular behavior, such as 360 for degrees; zero for an angle on a line. The default is 2 pi or 360
        for an angle around the whole circle, which `kalmanssl.data.full_circle` recognizes, and none for others.
    linearize : bool, optional
        True: a behavior in x and y is projected to the distance along a track, which is found from the fitted part.
    waypoints : str, optional
        Table of the way points of that track; see `kalmanssl.data.Track.from_csv`.
    discrete : bool, optional
        True: every distinct value of the behavior is a label. Text and bools are labels by default, numbers are not.
    level : float, optional
        Nominal level of the decoder's interval, such as 0.95.
    decoder : str, optional
        "ensemble", "mlp" or "linear".
    seeds : int, optional
        Number of fits with different seeds whose latents are compared, from 2 to 20. The run is that of the first one.
    model : dict
        Keyword arguments of `KalmanSSL`.
    """

    recording: str
    until: float | None = None
    activity: str | None = None
    units: list[str] = field(default_factory=list)
    bands: list[str] = field(default_factory=list)
    behavior: str | None = None
    epoch: str | None = None
    windows: list[list[float]] = field(default_factory=list)
    during: list[str] = field(default_factory=list)
    min_rate: float | None = None
    bin_size: float | None = None
    end_zones: list[float] | None = None
    min_speed: float | None = None
    period: float | None = None
    linearize: bool | None = None
    waypoints: str | None = None
    discrete: bool | None = None
    level: float | None = None
    decoder: str | None = None
    seeds: int | None = None
    model: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, recording: str | os.PathLike[str], **chosen: Any) -> RunSettings:
        """Make settings from keyword arguments: the attributes of this class, and parameters of `KalmanSSL`.

        None selects the default. Paths, tuples and numbers of NumPy become what a file of settings can hold.

        Raises
        ------
        InputError
            If there is no such setting, its value has another type, or a setting excludes another one.
        """
        own = {f.name for f in dataclasses.fields(cls)} - {"recording", "model"}
        known = own | _model_parameters()
        values = {name: _plain(name, value) for name, value in chosen.items() if value is not None}
        for name, value in values.items():
            if name not in known:
                raise InputError(str(unknown_name_error("setting of a run", name, sorted(known))), parameter=name)
            if name in own:
                valid, requirement = _CHECKS[name]
                check_condition(name, value, valid(value), requirement)
        if "end_zones" in values and "min_speed" in values:
            raise InputError("give end_zones (for a linear track) or min_speed (otherwise), not both")
        model = {name: value for name, value in values.items() if name not in own}
        return cls(os.fspath(recording), model=model, **{name: value for name, value in values.items() if name in own})

    def given(self) -> dict[str, Any]:
        """Return the settings that were chosen, those of the model included, in one flat dict."""
        values = dataclasses.asdict(self)
        flat = values | values.pop("model")
        return {name: value for name, value in flat.items() if value is not None and value != []}

    @classmethod
    def from_json(cls, values: Any, path: Any = "the file of settings") -> RunSettings:
        """Make settings from the output of `dataclasses.asdict`; unknown keys are ignored.

        Parameters
        ----------
        values : mapping
        path : path, optional
            The file that they were read from, for messages.

        Raises
        ------
        InputError
            If an entry is missing or has another type.
        """
        _check_stored(values, path)
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def _model_parameters() -> set[str]:
    """Return the names of the parameters of `KalmanSSL` that are settings of a run."""
    from kalmanssl.estimator import KalmanSSL

    return set(KalmanSSL().get_params(deep=False)) - {"checkpoint_dir", "encoder"}  # a run sets the former itself


def _plain(name: str, value: Any) -> Any:
    """Return a value as a file of settings can hold it: a number, text, a bool, None, or a list of these."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(name, one) for one in value]
    is_plain = value is None or isinstance(value, bool | int | float | str)
    check_condition(name, value, is_plain, "a number, text, or a list of these, which can be stored")
    return value


def _check_stored(values: Any, path: Any) -> None:
    """Check the types of the settings of a run in a file."""
    stored = StoredValues(values, path, "run", "settings")
    stored.text("recording")
    stored.group("model")
    for name, (valid, requirement) in _CHECKS.items():
        # Settings that came later are absent from runs of earlier versions.
        if name in stored and (stored.values[name] is not None or name in _NEVER_NULL):
            stored.get(name, valid, requirement if name in _NEVER_NULL else f"{requirement}, or null")


def are_windows(value: Any) -> bool:
    """Return whether a value of a file is a list of pairs of increasing numbers."""
    return isinstance(value, list) and all(map(_is_increasing_pair, value))


def _is_increasing_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[0] < value[1]


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


# Whether the value of a setting is valid, and what it must be.
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("units", "bands", "during"), (is_texts, "a list of texts")),
    "windows": (are_windows, "a list of pairs of increasing numbers"),
    "end_zones": (_is_increasing_pair, "two increasing numbers"),
    **dict.fromkeys(("linearize", "discrete"), (_is_bool, "true or false")),
    "seeds": (lambda value: is_number(value) and value == int(value), "a whole number"),
    **dict.fromkeys(
        ("until", "min_rate", "min_speed"), (lambda value: is_number(value) and abs(value) < 1e300, "a number")
    ),
    "bin_size": (lambda value: is_number(value) and 0 < value < 1e300, "positive, in seconds"),
    "level": (lambda value: is_number(value) and 0 < value < 1, "between 0 and 1"),
    "period": (lambda value: is_number(value) and 0 <= value < 1e300, "positive, or 0 for none"),
    **dict.fromkeys(
        ("activity", "behavior", "epoch", "waypoints", "decoder"), (lambda value: isinstance(value, str), "text")
    ),
}
_NEVER_NULL = ("units", "bands", "during", "windows")  # in a file; the lists are empty instead


def parse_units(chosen: list[str]) -> str | dict[str, list[Any]]:
    """Convert a choice of units, written as on the command line, to the argument of `Recording.from_nwb`.

    Parameters
    ----------
    chosen : list of str
        Empty or ["auto"], ["all"], or one or more "COLUMN=VALUE[,VALUE...]".

    Returns
    -------
    str or dict
        "auto", "all", or the allowed values of each column.

    Raises
    ------
    InputError
        If a choice has another form.
    """
    if not chosen:
        return "auto"
    if len(chosen) == 1 and chosen[0] in ("auto", "all"):
        return chosen[0]
    columns: dict[str, list[Any]] = {}
    for choice in chosen:
        column, sign, values = choice.partition("=")
        if not sign or not column or not values:
            raise InputError(
                f"units must be auto, all, or COLUMN=VALUE such as location=lCA1; got {choice!r}", parameter="units"
            )
        columns.setdefault(column, []).extend(_parse_value(value) for value in values.split(","))
    return columns


def parse_bands(chosen: list[str]) -> dict[str, tuple[float, float]] | None:
    """Convert frequency bands, written as on the command line, to the argument of `Recording.from_nwb`.

    Parameters
    ----------
    chosen : list of str
        Empty, or one or more "NAME=LOW:HIGH", Hz, such as "theta=6:10".

    Returns
    -------
    dict of (low, high), or None
        None if `chosen` is empty.

    Raises
    ------
    InputError
        If a band has another form, is empty, or has the name of another band.
    """
    bands: dict[str, tuple[float, float]] = {}
    for choice in chosen:
        name, _, limits = choice.partition("=")
        try:
            low, high = (float(limit) for limit in limits.split(":"))
        except ValueError:
            low = high = 0.0
        if not name or not 0 < low < high < float("inf"):
            raise InputError(
                f"bands must be NAME=LOW:HIGH with LOW below HIGH in Hz, such as theta=6:10; got {choice!r}",
                parameter="bands",
            )
        if name in bands:
            raise InputError(f"bands has two bands of the name {name!r}: rename one of them", parameter="bands")
        bands[name] = (low, high)
    return bands or None


def parse_windows(starts: list[float] | None, stops: list[float] | None) -> list[list[float]]:
    """Combine the starts and the stops of windows of time, written as on the command line, in pairs.

    Parameters
    ----------
    starts, stops : list of float, or None
        The values of --from and of --to, seconds.

    Raises
    ------
    InputError
        If there is only half of a pair, a window is empty or ends before it begins, or windows overlap.
    """
    starts, stops = starts or [], stops or []
    if len(starts) != len(stops):
        raise InputError(
            f"--from and --to come in pairs, but there are {len(starts)} and {len(stops)} of them: give both for each "
            "window"
        )
    windows = [[float(start), float(stop)] for start, stop in zip(starts, stops, strict=True)]
    for start, stop in windows:
        if not -1e300 < start < stop < 1e300:
            problem = "is empty" if start == stop else "ends before it begins" if start > stop else "has no such time"
            raise InputError(f"the window --from {start:.10g} --to {stop:.10g} {problem}: give two increasing times")
    windows.sort()
    for one, two in itertools.pairwise(windows):
        if two[0] < one[1]:
            raise InputError(
                f"the windows {one[0]:.10g} to {one[1]:.10g} s and {two[0]:.10g} to {two[1]:.10g} s overlap: join them"
            )
    return windows


def _parse_value(value: str) -> Any:
    """Convert text to an integer, float or bool where it is written as one."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(value.lower(), value)

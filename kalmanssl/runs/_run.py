"""A run: a fitted model, its decoder and how they were made, kept together in one folder.

RUN/metadata.json  how it was fitted, on what, and how well it did
RUN/model/         the model (`KalmanSSL.save`)
RUN/decoder/       the decoder, where there was behavior to decode
RUN/evaluation/    what the report shows of the part that was scored
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.errors import InputError, RecordingWarning
from kalmanssl.utils.storage import load_folder, save_folder

if TYPE_CHECKING:
    from kalmanssl.decoding import PositionDecoder
    from kalmanssl.estimator import KalmanSSL
    from kalmanssl.runs._evaluation import Evaluation

__all__ = ["Run", "RunSettings", "is_run", "parse_units", "read_json", "read_recording"]

_METADATA = "metadata.json"


@dataclass(frozen=True)
class RunSettings:
    """What a person chose for a fit; None leaves a thing to the library's default.

    Attributes
    ----------
    recording : str
        NWB file.
    until : float, optional
        Only bins before this time are fitted, seconds in the recording's clock.
    units : list of str
        See `parse_units`.
    behavior : str, optional
        Name of the series to decode; "none" for none.
    epoch : str, optional
        Label of the epoch to read.
    bin_size : float, optional
        Seconds.
    end_zones : [float, float], optional
        Ends of a linear track, see `kalmanssl.data`.
    min_speed : float, optional
        Or the speed above which the animal runs.
    period : float, optional
        Period of circular behavior.
    level : float, optional
        Level of the interval.
    decoder : str, optional
        "mlp" or "linear".
    model : dict
        Keyword arguments of `KalmanSSL`.
    """

    recording: str
    until: float | None = None
    units: list[str] = field(default_factory=list)
    behavior: str | None = None
    epoch: str | None = None
    bin_size: float | None = None
    end_zones: list[float] | None = None
    min_speed: float | None = None
    period: float | None = None
    level: float | None = None
    decoder: str | None = None
    model: dict[str, Any] = field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """Only what was chosen, flat."""
        values = dataclasses.asdict(self)
        flat = values | values.pop("model")
        return {name: value for name, value in flat.items() if value is not None and value != []}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunSettings:
        """Undo `dataclasses.asdict`."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def parse_units(chosen: list[str]) -> str | dict[str, list[Any]]:
    """Read a choice of units from the command line.

    Parameters
    ----------
    chosen : list of str
        Nothing or ["auto"], ["all"], or one or several "COLUMN=VALUE[,VALUE...]".

    Returns
    -------
    str or dict
        As `Recording.from_nwb` takes it.
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
                f"give auto, all, or COLUMN=VALUE such as location=lCA1; got {choice!r}", parameter="units"
            )
        columns.setdefault(column, []).extend(_plain(value) for value in values.split(","))
    return columns


def _plain(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(value.lower(), value)


def read_recording(path: str | os.PathLike[str], settings: RunSettings, behavior: bool = True) -> Recording:
    """Read a recording as the run's settings say.

    Parameters
    ----------
    path : path
    settings : RunSettings
    behavior : bool
        False reads the activity alone.

    Raises
    ------
    InputError
        See `Recording.from_nwb`.
    """
    wanted: Any = settings.behavior if behavior and settings.behavior != "none" else (None if behavior else False)
    if settings.behavior == "none":
        wanted = False
    options: dict[str, Any] = {"units": parse_units(settings.units), "behavior": wanted, "epoch": settings.epoch}
    if settings.bin_size is not None:
        options["bin_size"] = settings.bin_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)  # its text is among the notes
        return Recording.from_nwb(path, **options)


@dataclass
class Run:
    """A fitted model with its decoder.

    Attributes
    ----------
    settings : RunSettings
    model : KalmanSSL
    decoder : PositionDecoder, or None if there was no behavior
    metadata : dict
        What else is known: `recording`, `behavior`, `seconds`, `kalmanssl`, `made`.
    evaluation : Evaluation, or None
        Of the part that was scored when the run was made.
    """

    settings: RunSettings
    model: KalmanSSL
    decoder: PositionDecoder | None
    metadata: dict[str, Any]
    evaluation: Evaluation | None = None

    @property
    def behavior(self) -> str | None:
        """Name of the behavior that is decoded."""
        known = self.metadata["behavior"]
        return None if known is None else known["name"]

    @property
    def behavior_unit(self) -> str:
        """Its unit of measurement, abbreviated; empty if unknown."""
        known = self.metadata["behavior"]
        return "" if known is None else short_unit(known["unit"])

    def require_decoder(self) -> PositionDecoder:
        """Return the decoder; an `InputError` says how to get one if there is none."""
        if self.decoder is None:
            raise InputError(
                "the run has no decoder, since it was fitted without behavior: fit it on a recording that has some"
            )
        return self.decoder

    def save(self, folder: Path) -> None:
        """Write everything into an empty folder."""
        self.model.save(folder / "model")
        if self.decoder is not None:
            arrays, plain = _flatten_state(self.decoder.to_state())
            save_folder(folder / "decoder", "decoder", arrays, {"state": plain})
        if self.evaluation is not None:
            self.evaluation.save(folder / "evaluation")
        metadata = {
            "kind": "run",
            "format": 1,
            "kalmanssl": version("kalmanssl"),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": dataclasses.asdict(self.settings),
            **self.metadata,
            "scores": None if self.evaluation is None else self.evaluation.scores,
        }
        (folder / _METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Open a run folder.

        Raises
        ------
        InputError
            If the folder or something in it is missing or damaged; the message names it.
        """
        from kalmanssl.decoding import PositionDecoder
        from kalmanssl.estimator import KalmanSSL
        from kalmanssl.runs._evaluation import Evaluation

        folder = Path(path)
        if not folder.is_dir():
            raise InputError(f"no run at {folder}: make one with kalmanssl fit REC.nwb --out {folder}")
        if not (folder / _METADATA).is_file():
            raise InputError(f"{folder} is no run folder, or a damaged one: {_METADATA} is missing in it")
        metadata = read_json(folder / _METADATA)
        if metadata.get("kind") != "run":
            raise InputError(f"{folder} holds a {metadata.get('kind')!r}, not a run: give the folder that fit made")
        if metadata.get("format") != 1:
            raise InputError(
                f"{folder} has format {metadata.get('format')}, newer than this kalmanssl: upgrade kalmanssl"
            )
        try:
            decoder = None
            if metadata["behavior"] is not None:
                arrays, stored = load_folder(folder / "decoder", "decoder")
                decoder = PositionDecoder.from_state(_unflatten_state(arrays, stored["state"]))
            return cls(
                settings=RunSettings.from_json(metadata["settings"]),
                model=KalmanSSL.load(folder / "model"),
                decoder=decoder,
                metadata=metadata,
                evaluation=Evaluation.load(folder / "evaluation"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder} is damaged ({type(error).__name__}: {error}): fit it again") from error


def is_run(path: Path) -> bool:
    """Whether a folder was made by `Run`, so that replacing it loses nothing else."""
    try:
        return read_json(path / _METADATA).get("kind") == "run"
    except InputError:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; whatever is wrong with the file becomes an `InputError` that names it."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}): fit the run again") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged (it holds no JSON object): fit the run again")
    return values


def short_unit(unit: str) -> str:
    """Abbreviate the units of length and angle that files spell out."""
    short = {"meters": "m", "meter": "m", "metres": "m", "centimeters": "cm", "radians": "rad", "degrees": "deg"}
    return short.get(unit.lower(), "" if unit.lower() in ("unknown", "n/a", "na") else unit)


def _flatten_state(state: Any, name: str = "state") -> tuple[dict[str, np.ndarray], Any]:
    """Split nested dicts and lists into named arrays and JSON, with {"array": name} where an array stood."""
    if isinstance(state, np.ndarray):
        return {name: state}, {"array": name}
    if isinstance(state, Mapping):
        parts = {str(key): _flatten_state(value, f"{name}.{key}") for key, value in state.items()}
        arrays = {key: array for found, _ in parts.values() for key, array in found.items()}
        return arrays, {"object": {key: plain for key, (_, plain) in parts.items()}}
    if isinstance(state, list | tuple):
        items = [_flatten_state(value, f"{name}.{i}") for i, value in enumerate(state)]
        return {key: array for found, _ in items for key, array in found.items()}, [plain for _, plain in items]
    return {}, state.item() if isinstance(state, np.generic) else state


def _unflatten_state(arrays: Mapping[str, np.ndarray], plain: Any) -> Any:
    if isinstance(plain, dict):
        if "array" in plain:
            return arrays[plain["array"]]
        return {key: _unflatten_state(arrays, value) for key, value in plain["object"].items()}
    if isinstance(plain, list):
        return [_unflatten_state(arrays, value) for value in plain]
    return plain

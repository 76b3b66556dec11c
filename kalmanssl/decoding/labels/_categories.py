"""Decoded labels: the probability of every label at every bin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.decoding.calibration import RegionCalibration
from kalmanssl.decoding.grids import likelier_mass
from kalmanssl.decoding.results import DecodedBehavior, check_level
from kalmanssl.utils.text import shorten

if TYPE_CHECKING:
    import xarray

__all__ = ["DecodedCategory", "LabelSets"]


@dataclass(frozen=True)
class LabelSets:
    """A set of labels for every bin.

    Attributes
    ----------
    inside : xarray.DataArray of bool
        Whether each label is in the set, with the dimensions "time" and "label".
    size : (time,) int
        Number of labels in the set.
    """

    inside: xarray.DataArray
    size: np.ndarray


@dataclass(frozen=True, repr=False)
class DecodedCategory(DecodedBehavior):
    """The probability of every label at every bin.

    `numpy.asarray` of it is the most probable label of every bin, so metrics of scikit-learn accept it.

    Attributes
    ----------
    time : (time,)
        Bin centers in the recording's clock, seconds.
    labels : (labels,)
        All labels of the fit.
    mass : (time, labels)
        Probability of each label.
    level : float
        Nominal level of the prediction sets.
    calibration : RegionCalibration
        Probability mass of the prediction sets by nominal level.
    """

    time: np.ndarray
    labels: np.ndarray
    mass: np.ndarray
    level: float
    calibration: RegionCalibration

    def _summary(self) -> list[tuple[str, str]]:
        names = shorten(", ".join(str(label) for label in self.labels))
        rows = [*self._time_summary(), ("labels", f"{len(self.labels)} ({names})")]
        if len(self.mass):
            rows.append(("mean probability of the most probable label", f"{self.mass.max(axis=1).mean():.3g}"))
        return rows

    def __len__(self) -> int:
        return len(self.mass)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.most_probable, dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the most probable labels, (time,)."""
        return (len(self.mass),)

    def __getitem__(self, index: slice | np.ndarray) -> DecodedCategory:
        return replace(self, time=self.time[index], mass=self.mass[index])

    @property
    def probabilities(self) -> xarray.DataArray:
        """Probability of each label as a labeled array with the dimensions "time" and "label"."""
        return self._labeled(self.mass)

    @property
    def most_probable(self) -> np.ndarray:
        """Label with the largest probability, (time,)."""
        return self.labels[self.mass.argmax(axis=1)]

    def region(self, level: float | None = None) -> LabelSets:
        """Return the prediction set of every bin: the most probable labels, as many as needed to cover at a level.

        Sets contain at least one label. If the most probable label is right more often than the nominal level, they
        therefore cover more often, too. Source: Romano, Sesia & Candès 2020, NeurIPS, "Classification with valid and
        adaptive coverage", without randomization.

        Parameters
        ----------
        level : float, optional
            Inside (0, 1); by default `level` of the decoder.

        Raises
        ------
        InputError
            If the level is not inside (0, 1).
        """
        level = self.level if level is None else level
        check_level(level)
        inside = likelier_mass(self.mass) <= self.calibration.mass(level)
        return LabelSets(self._labeled(inside), inside.sum(axis=1))

    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        cumulative = np.cumsum(self.mass, axis=1, dtype=float)
        cumulative /= cumulative[:, -1:]
        level = rng.random((n, len(self)))
        drawn = np.zeros(level.shape, dtype=int)
        for column in cumulative[:, :-1].T:
            drawn += level >= column
        return self.labels[drawn]

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of a table of labels and their probabilities.

        Returns
        -------
        dict of (time,)
            `time`, `label` (the most probable one), `set` (all labels of the prediction set, as text that is separated
            by "|") and one column of probabilities for each label, such as `probability_left`.
        """
        names = [str(label) for label in self.labels.tolist()]
        inside = self.region().inside.values
        sets = ["|".join(name for name, one in zip(names, row, strict=True) if one) for row in inside]
        table = {"time": self.time, "label": self.most_probable, "set": np.array(sets)}
        return table | {f"probability_{name}": self.mass[:, number] for number, name in enumerate(names)}

    def to_xarray(self) -> xarray.Dataset:
        """Return the probabilities, the most probable label and the prediction set as a labeled data set.

        Returns
        -------
        xarray.Dataset
            `probability` and `in_set` (time, label), and `most_probable` (time,). The attribute `level` is the nominal
            level of the prediction set.
        """
        import xarray

        variables = {
            "probability": (("time", "label"), self.mass),
            "in_set": (("time", "label"), self.region().inside.values),
            "most_probable": ("time", self.most_probable),
        }
        coordinates = {"time": ("time", self.time, {"units": "s"}), "label": self.labels}
        return xarray.Dataset(variables, coordinates, {"level": self.level})

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        return {"probability": (("label",), self.mass)}

    def _coordinates(self) -> dict[str, Any]:
        return {"label": self.labels}

    def _labeled(self, values: np.ndarray) -> xarray.DataArray:
        import xarray

        coordinates = {"time": ("time", self.time, {"units": "s"}), "label": self.labels}
        return xarray.DataArray(values, coordinates, ("time", "label"))

"""Decoded behavior: a predictive distribution at every bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kalmanssl.decoding.calibration import REASONS, TrustJudgment
from kalmanssl.decoding.grids import Periods, difference, quantile_crps, turns_towards, wrap
from kalmanssl.decoding.inputs import LARGEST_POSITION
from kalmanssl.decoding.results._base import DecodedBehavior, axis_names
from kalmanssl.decoding.results._levels import LEVELS, QUANTILE_LEVELS, check_level, quantile_weights
from kalmanssl.decoding.results._posterior import GridPosterior, Region
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.sparkline import sparkline

if TYPE_CHECKING:
    import xarray

__all__ = ["DecodedPosition", "around_points"]

_ENDS = ("lower", "upper")

_T = TypeVar("_T")


def around_points(table: np.ndarray, points: np.ndarray, periods: Periods, level: float) -> np.ndarray:
    """Return quantiles (time, dims, levels) at `QUANTILE_LEVELS`, those of circular dimensions moved to the points."""
    if not any(periods):
        return table
    low, high = (
        (1 - weight) * table[:, :, right - 1] + weight * table[:, :, right]
        for right, weight in (quantile_weights(QUANTILE_LEVELS, q) for q in ((1 - level) / 2, (1 + level) / 2))
    )
    moved = table.copy()
    for dim, period in enumerate(periods):
        if period is not None:
            turns = turns_towards(points[:, dim], low[:, dim], high[:, dim], period)
            moved[:, dim] += np.nan_to_num(turns)[:, None]
    return moved


@dataclass(frozen=True, repr=False)
class DecodedPosition(DecodedBehavior):
    """A predictive distribution of the behavior at every bin.

    Arrays are (time,) for behavior of one dimension given as a vector, (time, dims) otherwise. `numpy.asarray` of it is
    the point estimate `mean`, so metrics of scikit-learn accept it.

    Attributes
    ----------
    time : (time,)
        Bin centers in the recording's clock, seconds.
    level : float
        Nominal level of the interval from `lower` to `upper`.
    table : (time, dims, levels)
        Quantiles at `levels`. On circular dimensions they may leave [0, period): the middle of the interval at `level`
        is within half a period of the point estimate.
    levels : (levels,)
        Probabilities of the quantiles in `table`, increasing.
    points : (time, dims)
        Point estimates: means of the predictive distributions before calibration.
    periods : tuple of float or None
        Period of each dimension; None for a dimension that is not circular.
    flat : bool
        True if the behavior was given as (time,).
    grids : sequence of GridPosterior
        Posteriors before calibration, one for each group of dimensions that are decoded jointly.
    judgment : TrustJudgment, optional
        What `trust`, `trusted` and `reason` return; without it every bin is trusted.
    """

    time: np.ndarray
    level: float
    table: np.ndarray
    levels: np.ndarray
    points: np.ndarray
    periods: Periods
    flat: bool
    grids: Sequence[GridPosterior] = ()
    judgment: TrustJudgment | None = None

    def __len__(self) -> int:
        return len(self.table)

    def _summary(self) -> list[tuple[str, str]]:
        dims = self.points.shape[1]
        rows = [*self._time_summary(), ("dimensions", str(dims))]
        if any(self.periods):
            rows.append(("period", ", ".join("none" if p is None else f"{p:.6g}" for p in self.periods)))
        if len(self):
            low, high = (end.reshape(-1, dims) for end in self.interval(self.level))
            known = np.isfinite(high).all(axis=1)
            if known.any():
                rows.append(("range", ", ".join(f"{a:.3g} to {b:.3g}" for a, b in _ranges(self.points[known]))))
                widths = ", ".join(f"{width:.3g}" for width in (high - low)[known].mean(axis=0))
                rows.append((f"mean width of the {100 * self.level:g} % interval", widths))
            rows.append(("not trusted", f"{100 * (1 - self.trusted.mean()):.1f} % of the bins"))
        return rows

    def _picture(self) -> tuple[str, str, str] | None:
        if not len(self):
            return None
        dims = self.points.shape[1]
        low, high = (end.reshape(-1, dims)[:, 0] for end in self.interval(self.level))
        picture = sparkline(self.points[:, 0], low, high, self.periods[0])
        text = f"{100 * self.level:g} % interval{', first dimension' if dims > 1 else ''}"
        return ("decoded over time", picture, text) if picture else None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.mean, dtype) if copy else np.asarray(self.mean, dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the point estimate, (time,) or (time, dims)."""
        return self.mean.shape

    def __getitem__(self, index: slice | np.ndarray) -> DecodedPosition:
        return DecodedPosition(
            time=self.time[index],
            level=self.level,
            table=self.table[index],
            levels=self.levels,
            points=self.points[index],
            periods=self.periods,
            flat=self.flat,
            grids=[grid[index] for grid in self.grids],
            judgment=None if self.judgment is None else self.judgment[index],
        )

    def _as_given(self, columns: np.ndarray) -> np.ndarray:
        """Return (time, dims) in the shape that the behavior was given in."""
        return columns[:, 0] if self.flat else columns

    @property
    def mean(self) -> np.ndarray:
        """Point estimate, within [0, period) on circular dimensions."""
        return self._as_given(self.points)

    @property
    def lower(self) -> np.ndarray:
        """Lower end of the central interval at `level`."""
        return self.interval(self.level)[0]

    @property
    def upper(self) -> np.ndarray:
        """Upper end of the central interval at `level`."""
        return self.interval(self.level)[1]

    @property
    def median(self) -> np.ndarray:
        """Median of the predictive distribution."""
        return self.quantile(0.5)

    @property
    def trust(self) -> np.ndarray:
        """Share of the held-out bins whose activity looks at least as unusual, (time,), from 0 to 1.

        It is judged from the activity alone, by the distance of the latents to those of the fit and the agreement of
        the bin with those around it, as far as these numbers predicted errors on held-out time. It is 0 where latents
        are missing, and 1 everywhere if the decoder was not calibrated.
        """
        return np.ones(len(self)) if self.judgment is None else self.judgment.trust

    @property
    def trusted(self) -> np.ndarray:
        """Whether to trust each bin, (time,) bool: `trust` is above the threshold that was found on held-out time.

        Up to the threshold, the intervals of held-out bins contained the truth clearly less often than their nominal
        level. If errors did not depend on the activity there, the threshold is 0.005, and only bins that are more
        unusual than nearly all held-out ones are not trusted. Errors that the activity does not show, such as those of
        a code that drifts, are not found.
        """
        return np.ones(len(self), dtype=bool) if self.judgment is None else self.judgment.trusted

    @property
    def reason(self) -> np.ndarray:
        """Why each bin is not trusted, (time,) text; empty where it is.

        "unfamiliar latents", "contradicts other bins" or "no activity".
        """
        return np.array(REASONS)[np.zeros(len(self), dtype=int) if self.judgment is None else self.judgment.reason]

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper end of the central interval at `level`, a number inside (0, 1)."""
        check_level(level)
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: float) -> np.ndarray:
        """Return the quantile at probability `q`, a number inside (0, 1); linear between those of `table`."""
        check_level(q, "q")
        right, weight = quantile_weights(self.levels, q)
        return self._as_given((1 - weight) * self.table[:, :, right - 1] + weight * self.table[:, :, right])

    @property
    def posterior(self) -> xarray.DataArray | tuple[xarray.DataArray, ...]:
        """Posterior over the grid, before calibration: probabilities that sum to one in every bin.

        A labeled array with the dimension "time" and one for each dimension of the behavior: "position", or "x" and
        "y". Coordinates are times in seconds and centers of cells. Dimensions beyond the second are decoded
        independently, in pairs, and there is one array for each pair.
        """
        return self._per_group([group.to_xarray(self.time) for group in self.grids])

    def region(self, level: float | None = None) -> Region | tuple[Region, ...]:
        """Return the highest-density region of every bin.

        It consists of the cells of largest posterior probability, as many as needed to cover at the nominal level
        (Izbicki, Shimizu & Stern 2022, JMLR 23:87), and of one at least. In two dimensions it can be curved or have
        several parts.

        Parameters
        ----------
        level : float, optional
            Inside (0, 1); by default the level of the intervals.

        Returns
        -------
        Region
            One for each pair of dimensions if there are more than two.

        Raises
        ------
        InputError
            If the level is not inside (0, 1).
        """
        level = self.level if level is None else level
        check_level(level)
        return self._per_group([group.region(level, self.time) for group in self.grids])

    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        draws = np.concatenate([group.sample(n, rng) for group in self.grids], axis=2)
        return draws[:, :, 0] if self.flat else draws

    def _per_group(self, parts: list[_T]) -> _T | tuple[_T, ...]:
        return parts[0] if len(parts) == 1 else tuple(parts)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of a table of point estimates and intervals.

        Returns
        -------
        dict of (time,)
            `time`, `mean`, `lower`, `upper` for one-dimensional behavior; `time`, `mean_x`, `lower_x`, `upper_x`,
            `mean_y`, ... for more dimensions (from the fourth on with the number of the dimension, as in `mean_4`).
            After them the intervals at 50, 80 and 95 %, `lower_50`, `upper_50`, ... or `lower_50_x`, `upper_50_x`, ...,
            and `trust` and `trusted`.
        """
        main = {"mean": self.mean, "lower": self.lower, "upper": self.upper}
        dims = self.points.shape[1]
        names = [""] if dims == 1 else [f"_{axis}" for axis in axis_names(dims)]
        table = {"time": self.time}
        for parts in (main, self._intervals()):
            flat = {name: np.asarray(values).reshape(len(self.time), -1) for name, values in parts.items()}
            table |= {f"{name}{axis}": values[:, d] for d, axis in enumerate(names) for name, values in flat.items()}
        return table | {"trust": self.trust, "trusted": self.trusted}

    def _intervals(self) -> dict[str, np.ndarray]:
        """Return both ends of the intervals at `LEVELS`, as `lower_50`, `upper_50`, ..., in the shape of `mean`."""
        ends = {f"{100 * level:g}": self.interval(level) for level in LEVELS}
        return {f"{end}_{name}": pair[number] for name, pair in ends.items() for number, end in enumerate(_ENDS)}

    def to_xarray(self, unit: str = "") -> xarray.Dataset:
        """Return point estimates, intervals and the posterior as a labeled data set.

        Parameters
        ----------
        unit : str
            Unit of measurement of the behavior, for the attribute `units`.

        Returns
        -------
        xarray.Dataset
            `mean`, `lower`, `upper`, and `lower_50`, `upper_50`, ... at 50, 80 and 95 %, (time,) or (time, dim);
            `trust` and `trusted` (time,); and `posterior` over (time, position) or (time, x, y). With more than two
            dimensions there is one posterior for each pair: `posterior` over x and y, `posterior_2`
            over x_2 and y_2, and so on. The attribute `level` is the nominal level of the interval.
        """
        import xarray

        units = {"units": unit} if unit else {}
        dims = ("time",) if self.flat else ("time", "dim")
        values = {name: getattr(self, name) for name in ("mean", "lower", "upper")} | self._intervals()
        variables: dict[str, Any] = {name: (dims, array, units) for name, array in values.items()}
        variables |= {name: ("time", getattr(self, name)) for name in ("trust", "trusted")}
        coordinates: dict[str, Any] = {"time": ("time", self.time, {"units": "s"})}
        if not self.flat:
            coordinates["dim"] = axis_names(self.points.shape[1])
        data = xarray.Dataset(variables, coordinates, {"level": self.level})
        groups = self.posterior if isinstance(self.posterior, tuple) else (self.posterior,)
        for number, posterior in enumerate(groups, 1):
            suffix = "" if number == 1 else f"_{number}"
            axes = [str(axis) for axis in posterior.dims[1:]]
            named = posterior.rename({axis: f"{axis}{suffix}" for axis in axes})
            for axis in axes:
                named[f"{axis}{suffix}"].attrs.update(units)
            data[f"posterior{suffix}"] = named
        return data

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        dims = () if self.flat else ("dim",)
        return {name: (dims, getattr(self, name)) for name in ("mean", "lower", "upper")} | {"trust": ((), self.trust)}

    def _coordinates(self) -> dict[str, Any]:
        return {} if self.flat else {"dim": axis_names(self.points.shape[1])}

    def error(self, truth: np.ndarray) -> np.ndarray:
        """Return the point estimate minus `truth`, the short way around a circle; NaN where the truth is NaN."""
        return self._as_given(difference(self.points, self._columns(truth), self.periods))

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Return the continuous ranked probability score of every bin, in the unit of the behavior.

        NaN where the truth is NaN.
        """
        truth = self._near_median(truth)
        scores = [
            quantile_crps(self.table[:, dim].astype(float), self.levels, truth[:, dim]) for dim in range(truth.shape[1])
        ]
        return self._as_given(np.stack(scores, axis=1))

    def pit(self, truth: np.ndarray) -> np.ndarray:
        """Return the predictive probability of lying below `truth`; uniform if the predictions are calibrated."""
        truth = self._near_median(truth)
        result = np.full(truth.shape, np.nan)
        for dim in range(truth.shape[1]):
            quantiles, value = self.table[:, dim].astype(float), truth[:, dim]
            known = np.flatnonzero(np.isfinite(value))
            right = np.clip((quantiles[known] < value[known, None]).sum(axis=1), 1, len(self.levels) - 1)
            low, high = quantiles[known, right - 1], quantiles[known, right]
            weight = np.clip((value[known] - low) / np.maximum(high - low, 1e-12), 0, 1)
            levels = self.levels[right - 1] + weight * (self.levels[right] - self.levels[right - 1])
            levels[value[known] < quantiles[known, 0]] = 0.0
            levels[value[known] > quantiles[known, -1]] = 1.0
            result[known, dim] = levels
        return self._as_given(result)

    def _columns(self, truth: np.ndarray) -> np.ndarray:
        """Return the truth as (time, dims)."""
        truth = as_floats("truth", truth)
        if (np.abs(truth) > LARGEST_POSITION).any():
            largest = np.nanmax(np.abs(truth))
            raise InputError(f"truth has the value {largest:g}: give NaN where it is unknown", parameter="truth")
        columns = truth[:, None] if truth.ndim == 1 else truth
        if columns.shape != self.points.shape:
            raise InputError(
                f"truth has shape {truth.shape}, the decoded behavior {self.mean.shape}: give one value for each",
                parameter="truth",
            )
        return columns

    def _near_median(self, truth: np.ndarray) -> np.ndarray:
        """Return the truth with multiples of the period added, so that it is within half a period of the median."""
        truth = self._columns(truth)
        middle = self.table[:, :, len(self.levels) // 2]
        near = [
            middle[:, dim] + wrap(truth[:, dim] - middle[:, dim], period) if period else truth[:, dim]
            for dim, period in enumerate(self.periods)
        ]
        return np.stack(near, axis=1)


def _ranges(values: np.ndarray) -> list[tuple[float, float]]:
    """Return the smallest and the largest value of each column."""
    return list(zip(values.min(axis=0).tolist(), values.max(axis=0).tolist(), strict=True))

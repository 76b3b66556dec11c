"""Filtered latents of a recording whose bins arrive one at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.estimator._inputs import COUNT_NORMALIZATIONS
from kalmanssl.kalman.kernels import has_compiler
from kalmanssl.models import OnlineKalmanFilter
from kalmanssl.networks import OnlineEncoder
from kalmanssl.utils.online_state import check_state, fingerprint
from kalmanssl.utils.segments import is_gap
from kalmanssl.utils.validation import check_condition, check_integer, check_number, short_repr

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["OnlineFilter", "OnlineLatent"]

_LARGEST = 1e37  # total activity that single precision can represent
_STORED = {  # attributes of the encoder and of the filter that are part of the state
    "encoder": ("recent", "n_recent"),
    "filter": ("mean", "cov", "innovations", "started", "n_observed", "is_steady"),
}


class OnlineLatent(NamedTuple):
    """Posterior of the latent state at one bin, given this bin and those before it.

    Attributes
    ----------
    time : float
        Center of the bin, seconds.
    mean : (state,)
    cov : (state, state) float32
        Bins with the same covariance share an array, which is read-only.
    is_missing : bool
        True if the posterior is a prediction from earlier bins, because this bin is missing or one of those that are
        summed in the filter step at this bin.
    is_start : bool
        Whether the bin is the first of a segment, at the start or after a gap in time.
    """

    time: float
    mean: np.ndarray
    cov: np.ndarray
    is_missing: bool
    is_start: bool


class OnlineFilter:
    """Filtered latents of a fitted `KalmanSSL`, one bin after another; see `KalmanSSL.online`.

    The memory does not grow with the number of bins.

    Parameters
    ----------
    model : KalmanSSL
        A fitted model; later changes of it have no effect.
    encoder_memory : int, optional
        Filter steps that a custom encoder receives at once, the present one included.

    Attributes
    ----------
    bin_size : float
        Seconds; 1 if the model was fitted on an array.
    state_dim : int
    """

    def __init__(self, model: KalmanSSL, encoder_memory: int | None = None) -> None:
        if encoder_memory is not None:
            check_integer("encoder_memory", encoder_memory, 1)
        sequence_model = copy.deepcopy(model.model_).cpu().double().eval()
        n, n_features = model.bins_per_step_, model.n_features_in_
        self.bin_size = 1.0 if math.isnan(model.bin_size_) else float(model.bin_size_)
        self.state_dim = sequence_model.predictor.state_dim
        self._is_counts = model.normalize_ in COUNT_NORMALIZATIONS
        self._moments = (np.zeros(0), np.zeros(0))
        if model.normalize_ == "standardize":
            self._moments = (np.array(model.feature_mean_, dtype=float), np.array(model.feature_scale_, dtype=float))
        self._is_single = not math.isnan(model.bin_size_)  # recordings are stored in single precision
        self._encoder = OnlineEncoder(sequence_model.encoder, n, n_features, encoder_memory)
        self._filter = OnlineKalmanFilter(sequence_model.predictor, n, n_features)
        self._fingerprint = fingerprint(value.numpy() for value in sequence_model.state_dict().values())
        self._bins = np.zeros((n, n_features))  # the last ones of the segment
        self._values, self._features = np.zeros((2, n_features))  # memory for those of the present bin
        self._kernel: Any = None
        if has_compiler():
            from kalmanssl.estimator._online_kernels import bin_kernel

            self._kernel = bin_kernel
            self._normalize(self._values.copy(), 0)  # compiles now
        self._n_bins = 0  # of the segment
        self._n_complete = n  # bins after the last missing one of the segment, at most n
        self._origin, self._n_since = math.nan, 0  # time of the last bin whose time was given, and bins after it
        self._steady_cov: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def time(self) -> float:
        """Time of the last bin, seconds; NaN before the first one."""
        return self._origin + self._n_since * self.bin_size

    def step(self, activity: Any, time: float | None = None) -> OnlineLatent:
        """Take one bin.

        Parameters
        ----------
        activity : (units,) or None
            Activity of the units in the order of the fit. None, or NaN in any unit, if the bin is missing; the latents
            are then predicted, also at the later bins whose filter step contains this bin.
        time : float, optional
            Center of the bin, seconds. By default it is one bin after the last one; the first bin is at zero. After a
            gap of more than 1.5 bins a new segment begins, and the filter starts again.

        Returns
        -------
        OnlineLatent

        Raises
        ------
        InputError
            If the bin cannot be used or the time does not increase. The state is then unchanged.
        """
        values = self._check_shape(activity)
        origin, n_since = self._check_time(time)
        now = origin + n_since * self.bin_size
        is_start = math.isnan(self._origin) or is_gap(now - self.time, self.bin_size)
        if is_start:
            before = self.state_dict()
            self._reset()
            try:
                mean, cov, is_missing = self._advance(values)
            except Exception:
                self.load_state_dict(before)
                raise
        else:
            mean, cov, is_missing = self._advance(values)
        self._origin, self._n_since = origin, n_since
        return OnlineLatent(now, mean, cov, is_missing, is_start)

    def reset(self) -> None:
        """Begin a new segment with the next bin, at any time, such as a trial or another recording."""
        self._origin, self._n_since = math.nan, 0

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state as numeric arrays, from which `load_state_dict` continues.

        It can be stored with ``numpy.savez(path, **state)``, or as JSON after ``array.tolist()`` of each entry.
        """
        state: dict[str, Any] = {
            "fingerprint": self._fingerprint,
            "origin": self._origin,
            "n_since_origin": self._n_since,
            "n_bins": self._n_bins,
            "n_complete": self._n_complete,
            "bins": self._bins,
        }
        for part, owner in self._stored_parts().items():
            state |= {f"{part}.{name}": getattr(owner, name) for name in _STORED[part]}
        return {name: np.array(value) for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called, in this object or one that was made from the same model.

        Parameters
        ----------
        state : mapping of str to array or nested lists

        Raises
        ------
        InputError
            If the state belongs to another model or is damaged.
        """
        found = check_state(state, self.state_dict())
        self._check_counts(found)
        self._origin, self._n_since = float(found["origin"]), int(found["n_since_origin"])
        self._n_bins, self._n_complete = int(found["n_bins"]), int(found["n_complete"])
        self._bins = found["bins"]
        for part, owner in self._stored_parts().items():
            for name in _STORED[part]:
                setattr(owner, name, found[f"{part}.{name}"])

    def _stored_parts(self) -> dict[str, OnlineEncoder | OnlineKalmanFilter]:
        """Return the objects whose attributes are part of the state, by their names in `_STORED`."""
        return {"encoder": self._encoder, "filter": self._filter}

    def _check_counts(self, found: Mapping[str, np.ndarray]) -> None:
        """Check that the counts in a state are in the ranges that `state_dict` returns."""
        largest = np.iinfo(np.int64).max
        ranges = {
            "n_since_origin": (0, largest),
            "n_bins": (0, largest),
            "n_complete": (0, len(self._bins)),
            "encoder.n_recent": (0, self._encoder.memory - 1),
            "filter.n_observed": (-1, largest),
        }
        for name, (low, high) in ranges.items():
            if (found[name] < low).any() or (found[name] > high).any():
                raise InputError(f"state[{name!r}] is out of range: the state is damaged", parameter="state")

    def _check_shape(self, activity: Any) -> np.ndarray | None:
        """Return the activity (units,) in float64, None for a missing bin."""
        if activity is None:
            return None
        try:
            values = np.asarray(activity)
        except ValueError:  # rows of different lengths
            values = np.empty(0, dtype=object)
        n_features = self._bins.shape[1]
        if values.dtype.kind not in "fiub" or values.shape != (n_features,):
            got = f"shape {values.shape}" if values.dtype.kind in "fiub" else short_repr(activity)
            raise InputError(
                f"activity must be one bin of {n_features} numbers, one for each unit; got {got}", parameter="activity"
            )
        return np.ascontiguousarray(values, dtype=float)

    def _take(self, activity: np.ndarray, sequence: int) -> bool:
        """Write the normalized activity of a bin and the sum over the last bins; return False for a missing bin."""
        total, smallest = self._normalize(activity, sequence)
        if not math.isfinite(total):
            if np.isnan(activity).any():
                return False
            raise InputError("activity must be finite; give None for a missing bin", parameter="activity")
        if self._is_counts and smallest < 0:
            raise InputError(
                f"activity must not be negative, since the model was fitted on counts; got {smallest:g}",
                parameter="activity",
            )
        if abs(total) > _LARGEST:
            raise InputError(f"activity is too large, {total:g} in total", parameter="activity")
        return True

    def _normalize(self, activity: np.ndarray, sequence: int) -> tuple[float, float]:
        """Write `_values` and `_features` of a bin; return the sum and the smallest value of the activity."""
        divisor = 1.0 if self._is_counts else float(len(self._bins))
        if self._kernel is not None:
            found: tuple[float, float] = self._kernel(
                activity, self._is_single, *self._moments, self._bins, sequence, divisor, self._values, self._features
            )
            return found
        with np.errstate(over="ignore", invalid="ignore"):
            values = activity.astype(np.float32 if self._is_single else float)
            if len(self._moments[0]):
                values = (values - self._moments[0]) / self._moments[1]
            self._values[:] = values.astype(np.float32)
            bins = self._bins.copy()
            bins[sequence] = self._values
            self._features[:] = bins.sum(axis=0) / divisor
            return float(activity.sum()), float(activity.min())

    def _check_time(self, time: Any) -> tuple[float, int]:
        """Return the time of a bin, as the time of the last bin that was given and the number of bins after it."""
        if time is None:
            return (0.0, 0) if math.isnan(self._origin) else (self._origin, self._n_since + 1)
        check_number("time", time)
        check_condition("time", time, math.isfinite(time), "finite")
        if time <= self.time:
            raise InputError(
                f"time must increase: this bin is at {time:.10g} s and the last one at {self.time:.10g} s",
                parameter="time",
            )
        return float(time), 0

    def _reset(self) -> None:
        """Begin a new segment."""
        self._bins[:] = 0.0
        self._n_bins, self._n_complete = 0, len(self._bins)
        self._encoder.reset()
        self._filter.reset()

    def _advance(self, activity: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, bool]:
        """Filter one bin of the present segment; return mean, covariance and whether it is missing."""
        n = len(self._bins)
        sequence = self._n_bins % n
        is_missing = activity is None or not self._take(activity, sequence)
        n_complete = 0 if is_missing else min(self._n_complete + 1, n)
        inputs = None
        if n_complete == n:
            features = self._features
            latent, inputs = self._encoder.encode(sequence, features)
            if not math.isfinite(np.add.reduce(latent)):
                raise InputError("activity gives latents that are not finite", parameter="activity")
            observed = latent if self._filter.is_observed(features) else None
            moments = self._filter.step(sequence, observed, features)
        else:
            moments = self._filter.step(sequence, None, None)
        self._bins[sequence] = 0.0 if is_missing else self._values
        self._encoder.keep(sequence, inputs)
        self._filter.keep(sequence, moments)
        self._n_bins, self._n_complete = self._n_bins + 1, n_complete
        return moments.mean, self._single_precision(moments.cov, moments.is_steady), n_complete < n

    def _single_precision(self, cov: np.ndarray, is_steady: bool) -> np.ndarray:
        """Return a covariance as float32; the one of the steady state is converted once."""
        if not is_steady:
            return cov.astype(np.float32)
        if self._steady_cov is None or self._steady_cov[0] is not cov:
            self._steady_cov = cov, cov.astype(np.float32)
            self._steady_cov[1].flags.writeable = False
        return self._steady_cov[1]

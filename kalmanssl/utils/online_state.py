"""States of online computations: dictionaries of numeric arrays that numpy and JSON can store."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kalmanssl.errors import InputError

__all__ = ["check_state", "fingerprint"]


def fingerprint(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Return a checksum of arrays, () int64, by which a state finds out that it belongs to another model."""
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    return np.array(checksum, dtype=np.int64)


def check_state(state: Any, expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a state as arrays with the names, shapes and data types of `expected`.

    Parameters
    ----------
    state : mapping of str to array or nested lists
    expected : mapping of str to array
        A state of the same kind. Its "fingerprint", if there is one, must be equal.

    Raises
    ------
    InputError
        If names or shapes differ, values are not numbers, or the state belongs to another model.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"state must be what state_dict returned; got {type(state).__name__}", parameter="state")
    different = sorted(set(state) ^ set(expected))
    if different:
        raise InputError(
            f"state has other entries than state_dict returns ({', '.join(map(str, different[:5]))}): it belongs to "
            "another model or decoder",
            parameter="state",
        )
    found = {}
    for name, value in expected.items():
        array = _as_type(name, state[name], value.dtype)
        if array.size == 0 == value.size:
            array = array.reshape(value.shape)  # lists do not have the shape of empty arrays
        if array.shape != value.shape:
            raise InputError(
                f"state[{name!r}] has shape {array.shape} instead of {value.shape}: it belongs to another model or "
                "decoder",
                parameter="state",
            )
        if name.endswith("fingerprint") and array != value:
            raise InputError(
                "state belongs to another model or decoder: load the one that the state was made with",
                parameter="state",
            )
        found[name] = array
    return found


def _as_type(name: str, value: Any, dtype: np.dtype) -> np.ndarray:
    """Return an entry of a state as an array of the expected type, without loss of information."""
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "biuf":
            raise TypeError
        with np.errstate(invalid="ignore", over="ignore"):
            array = given.astype(dtype)
    except (TypeError, ValueError):
        raise InputError(f"state[{name!r}] must consist of numbers", parameter="state") from None
    if dtype.kind == "f" and (np.isinf(array).any() or (np.isnan(array).any() and not name.endswith("origin"))):
        raise InputError(f"state[{name!r}] must be finite: the state is damaged", parameter="state")
    if dtype.kind in "biu" and given.size and (array != given).any():
        raise InputError(f"state[{name!r}] must consist of whole numbers: the state is damaged", parameter="state")
    return array

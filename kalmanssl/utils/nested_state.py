"""States of nested dicts and lists with arrays, as named arrays and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import short_repr

__all__ = ["flatten_state", "unflatten_state"]


def flatten_state(state: Any, name: str = "state") -> tuple[dict[str, np.ndarray], Any]:
    """Split nested dicts and lists into named arrays and JSON, where {"array": name} replaces each array."""
    if isinstance(state, np.ndarray):
        return {name: state}, {"array": name}
    if isinstance(state, Mapping):
        parts = {str(key): flatten_state(value, f"{name}.{key}") for key, value in state.items()}
        arrays = {key: array for found, _ in parts.values() for key, array in found.items()}
        return arrays, {"object": {key: plain for key, (_, plain) in parts.items()}}
    if isinstance(state, list | tuple):
        items = [flatten_state(value, f"{name}.{i}") for i, value in enumerate(state)]
        return {key: array for found, _ in items for key, array in found.items()}, [plain for _, plain in items]
    return {}, state.item() if isinstance(state, np.generic) else state


def unflatten_state(arrays: Mapping[str, np.ndarray], plain: Any) -> Any:
    """Undo `flatten_state`. Each array is used at most once, so that nothing grows beyond what is stored."""
    return _nested(dict(arrays), plain)


def _nested(arrays: dict[str, np.ndarray], plain: Any) -> Any:
    """Return nested dicts and lists with the arrays that JSON refers to, which are taken out of `arrays`."""
    if isinstance(plain, dict):
        if isinstance(plain.get("array"), str) and plain["array"] in arrays:
            return arrays.pop(plain["array"])
        if not isinstance(plain.get("object"), dict):
            raise InputError(f"the state is damaged ({short_repr(plain)} refers to no array): save the decoder again")
        return {key: _nested(arrays, value) for key, value in plain["object"].items()}
    if isinstance(plain, list):
        return [_nested(arrays, value) for value in plain]
    return plain

"""Arrays of NumPy in and out, and single sequences without a batch axis, for the functions of the filter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

__all__ = ["ResultView", "accept_arrays", "unwrap_result"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MASK = "mask"
_INPUTS = "u"


class ResultView:
    """The fields of a `FilterResult` or `SmootherResult` as arrays of NumPy, without the batch axis, or both.

    Fields have the same names and are converted when they are first accessed. They have no batch axis if the
    observations had none.

    Attributes
    ----------
    result : FilterResult or SmootherResult
        The result as tensors with a batch axis, with its methods.
    """

    def __init__(self, result: Any, arrays: bool, single: bool) -> None:
        self.result, self._arrays, self._single = result, arrays, single

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in (*self.result.FIELDS, "filter", "mask", "status"):
            message = (
                f"{type(self.result).__name__} has no field {name!r}; its methods are those of the attribute result"
            )
            raise AttributeError(message)
        value = _present(getattr(self.result, name), self._arrays, self._single)
        setattr(self, name, value)
        return value

    def __repr__(self) -> str:
        what = "arrays" if self._arrays else "tensors"
        return f"{self.result!r} as {what}{' without a batch axis' if self._single else ''}"

    def _repr_html_(self) -> str:
        """Return the table of the result as HTML; notebooks call this."""
        return str(self.result._repr_html_())

    def tensors(self) -> dict[str, Any]:
        """Return all moments by name, in the form of the fields."""
        return {name: getattr(self, name) for name in self.result.FIELDS}


def unwrap_result(result: Any) -> Any:
    """Return the result as tensors with a batch axis."""
    return result.result if isinstance(result, ResultView) else result


def accept_arrays(
    quick: Callable[..., Any] | None = None, **axes: int
) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Decorate a function of tensors with a batch axis, so that it also takes arrays, and sequences without that axis.

    If arguments are arrays of NumPy and none is a tensor, the results are arrays. They are computed in float32 if all
    of them are, and else in float64. If none of the arguments named in `axes` has a batch axis, the results have none.

    Parameters
    ----------
    quick : callable, optional
        Called first, if the first argument is an array; returns the result or None if it needs the general code.
    **axes : int
        Number of axes of each argument that has a batch axis, the batch included. A mask may have one less.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        names = tuple(inspect.signature(function).parameters)
        axes_of_first = axes.get(names[0])

        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            if args and isinstance(args[0], Tensor) and args[0].ndim == axes_of_first:  # nothing is to be converted
                return function(*args, **kwargs)
            if quick is not None and args and isinstance(args[0], np.ndarray):
                result: Any = quick(*args, **kwargs)
                if result is not None:
                    return cast(_T, result)
            given: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
            arrays = any(isinstance(value, np.ndarray) for value in given.values())
            arrays = arrays and not any(isinstance(value, Tensor) for value in given.values())
            single = all(_has_axes(given.get(name), n - 1) for name, n in axes.items())
            if len(args) > len(names) or not (arrays or single):
                return function(*args, **kwargs)
            if arrays:
                given = _as_tensors(given)
            if single:
                given = {name: _add_batch(name, value, axes) for name, value in given.items()}
            general: Callable[..., Any] = function
            return cast(_T, _present(general(**given), arrays, single))

        return call

    return decorate


def _has_axes(value: Any, n: int) -> bool:
    """Whether a value is an array or a dense tensor with `n` axes."""
    if isinstance(value, Tensor):
        return not value.is_nested and value.layout is torch.strided and value.ndim == n
    return isinstance(value, np.ndarray) and value.ndim == n


def _as_tensors(given: dict[str, Any]) -> dict[str, Any]:
    """Convert the arrays of numbers and masks; what cannot be converted is left for the function to refuse."""
    numbers = [value.dtype for value in given.values() if isinstance(value, np.ndarray) and value.dtype.kind in "fiu"]
    dtype = np.float32 if set(numbers) == {np.dtype(np.float32)} else np.float64
    converted = {}
    for name, value in given.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(np.array(value, dtype))
        elif isinstance(value, np.ndarray) and value.dtype == np.bool_:
            value = torch.from_numpy(np.array(value))
        converted[name] = value
    return converted


def _add_batch(name: str, value: Any, axes: dict[str, int]) -> Any:
    """Return an argument with a batch axis of 1 if it has one."""
    sequences = max(axes.values()) == 3 and "y" in axes and "mean" not in axes
    if name in axes or (name == _MASK and isinstance(value, Tensor)):
        return value[None]
    if name == _INPUTS and sequences and isinstance(value, Tensor) and value.ndim == 2:
        return value[None]
    return value


def _present(value: Any, arrays: bool, single: bool) -> Any:
    """Return a result in the form in which the arguments were given."""
    if isinstance(value, Tensor):
        value = value[0] if single else value
        return value.detach().numpy() if arrays else value
    if isinstance(value, tuple):
        return tuple(_present(one, arrays, single) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        shown = {field.name: _present(getattr(value, field.name), arrays, single) for field in fields(value)}
        return type(value)(**shown)
    return value if value is None else ResultView(value, arrays, single)

"""Seeds from the argument `random_state`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.utils.validation import check_condition, check_integer

__all__ = ["check_random_state", "draw_seed"]

_LARGEST_SEED = 2**32 - 1  # of RandomState


def check_random_state(value: Any) -> None:
    """Raise `InputError` unless the value is a seed, a RandomState, a Generator or None."""
    if value is None or isinstance(value, np.random.RandomState | np.random.Generator):
        return
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    check_condition("random_state", value, is_integer, "a whole number, a RandomState, a Generator or None")
    check_integer("random_state", value, 0, _LARGEST_SEED)


def draw_seed(value: Any) -> int:
    """Return a seed from a valid `random_state`; drawing from a RandomState or a Generator changes its state."""
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**31 - 1))
    state = value if isinstance(value, np.random.RandomState) else np.random.RandomState(value)
    return int(state.randint(2**31 - 1))

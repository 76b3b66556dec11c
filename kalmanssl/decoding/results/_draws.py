"""The random generator of draws from decoded behavior."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.utils.memory import check_memory
from kalmanssl.utils.seeds import check_random_state
from kalmanssl.utils.validation import check_integer

__all__ = ["generator_for_draws"]


def generator_for_draws(n: Any, random_state: Any, size: int) -> np.random.Generator:
    """Check the number of draws, each with `size` values, and their memory; return the generator of a seed."""
    check_integer("n", n, 1)
    check_random_state(random_state)
    check_memory(16.0 * n * max(size, 1), f"n={n}: draws of all bins", "draw fewer, or from fewer bins", "n")
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    return np.random.default_rng(random_state)

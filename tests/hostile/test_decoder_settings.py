"""Settings of decoders of any wrong type or range are refused with one line."""

from __future__ import annotations

import dataclasses
import math
from contextlib import suppress
from typing import Any

import pytest

from kalmanssl.decoding import (
    CalibrationSettings,
    DriftSettings,
    EnsembleReadoutSettings,
    LinearReadoutSettings,
    MLPReadoutSettings,
    MovementSettings,
    NeighborReadoutSettings,
    SklearnReadoutSettings,
)
from kalmanssl.errors import InputError

SETTINGS = (
    CalibrationSettings,
    DriftSettings,
    EnsembleReadoutSettings,
    LinearReadoutSettings,
    MLPReadoutSettings,
    MovementSettings,
    NeighborReadoutSettings,
    SklearnReadoutSettings,
)
REFUSED: tuple[Any, ...] = (None, "x", -1, math.nan, [], ("a",), [1, "b"], object(), (math.nan,), [-1.0], [[1.0]])
DOUBTFUL: tuple[Any, ...] = (math.inf, 0.5, True, 10**30)  # right for some settings


@pytest.mark.parametrize(
    ("settings", "name"), [(one, field.name) for one in SETTINGS for field in dataclasses.fields(one)]
)
def test_values_of_another_type_are_refused(settings: Any, name: str) -> None:
    for value in REFUSED:
        with pytest.raises(InputError) as caught:
            settings(**{name: value})
        assert "\n" not in str(caught.value)
    for value in DOUBTFUL:
        with suppress(InputError):
            settings(**{name: value})

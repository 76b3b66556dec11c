"""States of decoders that were changed are refused with one line, or give a decoder that works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from damage import REMOVED, places, replaced
from decoder_cases import KINDS, LATENTS, TIME, fitted
from refusals import assert_refused, time_limit

from kalmanssl import PositionDecoder
from kalmanssl.errors import InputError

INFINITE, NAN = float("inf"), float("nan")
NEW = slice(300, 320)


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Any]]:
    """States of small decoders of each kind."""
    return {kind: fitted(kind).to_state() for kind in KINDS}


def at(state: Any, place: str) -> tuple[Any, ...]:
    """Return the keys of a place such as "decoders.array.grids.0.0.width"."""
    keys: list[Any] = []
    for key in place.split("."):
        keys.append(int(key) if isinstance(state, list | tuple) else key)
        state = state.get(key) if isinstance(state, dict) else state[keys[-1]]
    return tuple(keys)


VALUES: dict[str, dict[str, Any]] = {
    "settings.regressor": {"unknown": "x", "list": [], "null": None, "code": "os.system"},
    "settings.level": {"one": 1.0, "text": "a", "nan": NAN, "null": None, "list": [0.9]},
    "settings.posterior": {"null": None, "list": [], "missing": REMOVED},
    "settings.n_samples": {"huge": 10**12, "zero": 0, "text": "1"},
    "settings.period": {"number": 3.0, "negative": [-1.0], "nan": [NAN], "two": [None, None], "empty": []},
    "settings.time_scales": {"text": "ab", "negative": [-1.0], "number": 1.0},
    "settings.readout_settings": {"text": "x", "unknown": {"a": 1}, "list": [1]},
    "settings.movement_settings.kinds": {"unknown": ["x"], "text": "walk", "empty": []},
    "settings.random_state": {"text": "a", "negative": -1, "list": [1]},
    "settings.unknown": {"number": 1},
    "settings": {"null": None, "list": [], "empty": {}, "missing": REMOVED},
    "features": {"zero": 0, "billion": 10**9, "other": 4, "fraction": 3.0, "text": "3"},
    "timed": {"number": 1, "text": "yes"},
    "labels": {"of numbers": [1.0, 2.0], "text": "ab", "one": ["a"], "equal": ["a", "a"], "mixed": ["a", 1]},
    "decoders": {"empty": {}, "null": None, "unknown": {"x": {}}, "list": [], "missing": REMOVED},
    "decoders.array": {"null": None, "empty": {}, "list": []},
    "decoders.array.end": {"nan": NAN, "text": "now", "null": None},
    "decoders.array.bin_size": {"zero": 0, "negative": -1, "nan": NAN, "tiny": 1e-30, "text": "1"},
    "decoders.array.context": {"negative": [-1.0], "text": "ab", "longer": [0.1, 0.2, 0.3], "huge": [1e20, 1.0]},
    "decoders.array.grids": {"empty": [], "null": None, "two": [[], []]},
    "decoders.array.grids.0.0.n_cells": {"billion": 10**9, "zero": 0, "other": 13, "text": "12", "nan": NAN},
    "decoders.array.grids.0.0.width": {"zero": 0.0, "negative": -1.0, "nan": NAN, "infinite": INFINITE, "other": 9.0},
    "decoders.array.grids.0.0.period": {"other": 3.0, "text": "x"},
    "decoders.array.movements": {"empty": [], "null": [None], "text": "x", "no component": [[]]},
    "decoders.array.movements.0.0.weight": {"half": 0.5, "nan": NAN, "negative": -1, "text": "1"},
    "decoders.array.movements.0.0.movement.power": {"zero": 0.0, "nan": NAN, "negative": -1},
    "decoders.array.movements.0.0.movement.jump": {"two": 2.0, "negative": -0.1},
    "decoders.array.movements.0.0.movement.statistics.grid": {"empty": [], "null": None},
    "decoders.array.movements.0.0.kind": {"unknown": "x", "none": "none", "null": None},
    "decoders.array.movements.0.0.combination": {"unknown": "x", "null": None, "number": 1},
    "decoders.array.movement_scores": {"null": None, "texts": [{"walk": "x"}], "two": [{}, {}]},
    "decoders.array.calibrations": {"empty": [], "two": [{}, {}], "text": "x"},
    "decoders.array.calibrations.0.floor": {"negative": -1.0, "nan": NAN, "infinite": INFINITE},
    "decoders.array.movements.0.0.familiarity.usual": {"negative": -1.0, "nan": NAN, "text": "x"},
    "decoders.array.readout.networks.settings.hidden": {"billion": 10**9, "other": 9, "text": "8"},
    "decoders.array.readout.networks.settings.n_networks": {"billion": 10**9, "two": 2},
    "decoders.array.readout.networks.scale": {"zero": 0.0, "nan": NAN, "negative": -1.0},
    "decoders.array.readout.networks.seed": {"negative": -1, "huge": 10**30, "text": "1"},
    "decoders.array.readout.neighbors.settings.smoothing": {"huge": 1e12, "zero": 0.0, "nan": NAN},
    "decoders.array.readout.settings.neighbor_weight": {"two": 2.0, "nan": NAN, "text": "a"},
    "adaptations": {"null": None, "unknown": {"smoothed": {}}, "list": []},
    "adaptations.array.intervals": {"empty": [], "text": "x"},
    "adaptations.array.intervals.0.n_bins": {"negative": -1, "fraction": 1.5},
    "adaptations.array.end.time": {"nan": NAN, "text": "now"},
    "adaptations.array.end.beliefs": {"empty": [], "text": "x"},
}  # fmt: skip
CASES = [(place, name) for place, values in VALUES.items() for name in values]


@pytest.mark.parametrize(("place", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_changed_values_are_refused(place: str, name: str, states: Any) -> None:
    changed = replaced(states["line"], at(states["line"], place), VALUES[place][name])
    assert_refused(lambda: PositionDecoder.from_state(changed), "state", seconds=5)


def _flat(change: Callable[[np.ndarray], None]) -> Callable[[np.ndarray], np.ndarray]:
    def changed(array: np.ndarray) -> np.ndarray:
        array = array.astype(float, order="C")
        change(array.reshape(-1))
        return array

    return changed


def _set(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return _flat(lambda flat: flat.__setitem__(0, value))


CHANGES: dict[str, Callable[[np.ndarray], Any]] = {
    "nan": _set(np.nan), "infinite": _set(np.inf), "huge": _set(1e30), "empty": lambda a: a[:0],
    "another axis": lambda a: a[None], "text": lambda a: a.astype(str), "complex": lambda a: a.astype(complex),
    "objects": lambda a: a.astype(object), "bool": lambda a: a.astype(bool), "number": lambda a: 1.0,
    "twice": lambda a: np.concatenate([a, a]), "null": lambda a: None, "half": lambda a: a.astype(np.float16),
}  # fmt: skip


def arrays_in(value: Any, start: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places of all arrays."""
    for place in places(value, start, longest=100):
        found = value
        for key in place:
            found = found[key]
        if isinstance(found, np.ndarray):
            yield place


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_array_can_be_replaced_by_one_that_does_not_fit(kind: str, change: Any, states: Any) -> None:
    state = states[kind]
    found = list(arrays_in(state))
    assert len(found) > 5
    for place in found:
        array = state
        for key in place:
            array = array[key]
        missing = place[-2:] == ("end", "mean")  # earlier latents, which may be unknown
        if missing and change in (CHANGES["nan"], CHANGES["infinite"], CHANGES["huge"], CHANGES["empty"]):
            continue
        if (missing or "beliefs" in place or "reference" in place) and change is CHANGES["twice"]:
            continue
        if ("cells" in place and change is CHANGES["half"]) or ("beliefs" in place and change is CHANGES["null"]):
            continue
        assert_refused(lambda p=place, a=array: PositionDecoder.from_state(replaced(state, p, change(a))), seconds=5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_causes_another_error(kind: str, states: Any) -> None:
    """Every value is replaced by others; the state is refused, or the decoder gives finite results."""
    state, refused = states[kind], 0
    for number, place in enumerate(places(state, longest=1)):
        for value in (None, "x", -1, 10**12, INFINITE, [], {"a": 1}, REMOVED)[number % 4 :: 4]:
            changed = replaced(state, place, value)
            try:
                with time_limit(10.0):
                    decoder = PositionDecoder.from_state(changed)
            except InputError:
                refused += 1
                continue
            decoded = decoder.predict(LATENTS[NEW], TIME[NEW] + 50)
            assert np.isfinite(decoded.mass if kind == "labels" else decoded.interval(0.9)).all()
    assert refused > 50


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_was_not_changed_gives_the_same_results(kind: str, states: Any) -> None:
    first, second = (PositionDecoder.from_state(states[kind]).predict(LATENTS[NEW], TIME[NEW] + 50) for _ in range(2))
    own = fitted(kind).predict(LATENTS[NEW], TIME[NEW] + 50)
    for other in (second, own):
        name = "mass" if kind == "labels" else "mean"
        np.testing.assert_array_equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize("state", [None, [], "x", 3, {}, {"settings": {}}, np.zeros(3)], ids=lambda s: repr(s)[:12])
def test_what_is_no_state_is_refused(state: Any) -> None:
    assert_refused(lambda: PositionDecoder.from_state(state), "state")

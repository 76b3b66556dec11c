"""Arguments of `Recording.from_nwb`, and their validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kalmanssl.data.nwb._series import Behavior
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_condition, check_number, check_positive, check_seed, short_repr

__all__ = ["ReadOptions", "check_choices"]


@dataclass(frozen=True)
class ReadOptions:
    """Arguments of `Recording.from_nwb`, which describes them."""

    bin_size: float | None = None
    units: str | Mapping[str, Any] = "auto"
    behavior: Behavior = None
    epoch: str | None = None
    random_state: int | None = 0
    activity: str | None = None
    bands: Mapping[str, tuple[float, float]] | None = None

    def check(self) -> None:
        """Raise `InputError` if an argument has a wrong type."""
        if self.bin_size is not None:
            check_positive("bin_size", self.bin_size)
        check_choices(self.activity, self.behavior, self.units)
        check_condition("epoch", self.epoch, self.epoch is None or isinstance(self.epoch, str), "a label or None")
        check_seed(self.random_state)
        if self.bands is None:
            return
        check_condition("bands", self.bands, isinstance(self.bands, Mapping), "a dict of name to (low, high)")
        for name, band in self.bands.items():
            if not isinstance(name, str) or not isinstance(band, list | tuple) or len(band) != 2:
                raise InputError(
                    f"bands must have names and (low, high) in Hz, got {short_repr(name)}: {short_repr(band)}",
                    parameter="bands",
                )
            for limit in band:
                check_number("bands", limit)


def check_choices(activity: Any, behavior: Any, units: Any) -> None:
    """Raise `InputError` if an argument that chooses objects of the file has a wrong type."""
    check_condition(
        "activity", activity, activity is None or (isinstance(activity, str) and bool(activity)), "a name or None"
    )
    is_choice = isinstance(units, Mapping) or (isinstance(units, str) and units in ("auto", "all"))
    check_condition("units", units, is_choice, "'auto', 'all' or a dict of column to values")
    if behavior is None or behavior is False or isinstance(behavior, str):
        return
    named = isinstance(behavior, Mapping)
    check_condition(
        "behavior", behavior, named or isinstance(behavior, Sequence), "a name, names, a dict of names, False or None"
    )
    names = [*behavior, *behavior.values()] if named else list(behavior)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"behavior must have names of series, got {short_repr(behavior)}", parameter="behavior")
